"""The client 0.6.12 with rows of 200 KB: generated, listed and rated, each as its own.

Prints how many there are of each at the end.
"""

from elluminate import Client
from elluminate.schemas import RatingMode

ROWS, LENGTH = 100, 200_000

client = Client()
template, _ = client.prompt_templates.get_or_create("Spell {{word}}.", name="Long")
client.criteria.add_many(["Is it long?"], template)
collection, _ = client.collections.get_or_create(name="Long words", description="")
variables = [
    client.template_variables.add_to_collection(
        template_variables={"word": f"word-{number:03} " + "x" * LENGTH}, collection=collection
    )
    for number in range(ROWS)
]
experiment, _ = client.experiments.get_or_create(
    "Long", prompt_template=template, collection=collection, description=""
)
responses = client.responses.generate_many(
    prompt_template=template, template_variables=variables, experiment=experiment
)
for number, response in enumerate(responses):
    assert f"word-{number:03} " in response.messages[-1].content
ratings = client.ratings.rate_many(responses, rating_mode=RatingMode.FAST)
assert all(len(one) == 1 for one in ratings)
print(len(responses), len({response.id for response in responses}), len(ratings))
