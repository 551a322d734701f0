"""Store a template, a collection, an experiment and a response with any version of the client."""

import sys

import elluminate
from elluminate import Client
from elluminate.schemas import CollectionColumn, ColumnTypeEnum

import whole

whole.watch()

client = Client()
version = elluminate.__version__


def resource(name):
    """An attribute up to 0.7, a private one later."""
    return getattr(client, name, None) or getattr(client, f"_{name}")


types = list(ColumnTypeEnum)
columns = [
    CollectionColumn(name=f"c{place}", column_type=kind, column_position=place)
    for place, kind in enumerate(types)
]
template, _ = resource("prompt_templates").create("Say {{c0}}.", name=f"by {version}"), None
template = template[0] if isinstance(template, tuple) else template
collection = resource("collections").create(
    name=f"by {version}", columns=columns, variables=[{f"c{n}": "a" for n in range(len(types))}]
)
(row,) = resource("template_variables").list(collection)
resource("criteria").add_many(["Is it said?"], prompt_template=template)
experiment = resource("experiments").create(
    f"by {version}", prompt_template=template, collection=collection
)
arguments = {"prompt_template": template} if version.startswith("0.6") else {}
response = resource("responses").generate(
    template_variables=row, experiment=experiment, **arguments
)
resource("ratings").rate(response)
sys.stdout.write("ok\n")
