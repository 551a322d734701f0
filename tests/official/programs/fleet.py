"""Read all that a project has with any version of the official client; counts as JSON."""

import json

from elluminate import Client

import whole

whole.watch()

client = Client()


def resource(name):
    """An attribute up to 0.7, a private one later."""
    return getattr(client, name, None) or getattr(client, f"_{name}")


collections = resource("collections").list()
experiments = resource("experiments").list()
templates = resource("prompt_templates").list()
sets = resource("criterion_sets").list()
rows = [row for one in collections for row in resource("template_variables").list(one)]
responses = [one for owner in experiments for one in resource("responses").list(experiment=owner)]
for one in experiments:
    resource("experiments").get(name=one.name)
print(
    json.dumps(
        {
            "collections": len(collections),
            "rows": len(rows),
            "experiments": len(experiments),
            "templates": len(templates),
            "sets": len(sets),
            "responses": len(responses),
            "ratings": sum(len(one.ratings) for one in responses),
        }
    )
)
