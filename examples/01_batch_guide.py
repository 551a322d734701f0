"""The service's batch guide, line for line, asynchronously.

Needs ELLUMINATE_API_KEY. To run it on your own machine, start `elluminate-async serve` in
another terminal, and set ELLUMINATE_BASE_URL=http://127.0.0.1:8000 and the key it shows.
"""

import asyncio

from dotenv import load_dotenv

from elluminate_async import AsyncClient
from elluminate_async.schemas import RatingMode, TemplateVariables

load_dotenv(override=True)


async def main() -> None:
    async with AsyncClient() as client:
        prompt_template, _ = await client.prompt_templates.get_or_create(
            "Explain why {{language}}'s {{quirk}} is considered surprising or counterintuitive, "
            "and demonstrate it with a short code example that might trip up even experienced "
            "developers.",
            name="Programming Quirks",
        )

        await client.criteria.get_or_generate_many(prompt_template)

        # Create a collection for our variables
        collection, _ = await client.collections.get_or_create(
            name="Programming Quirks Variables",
            description="Template variables for programming quirks examples",
        )

        values = [
            {"language": "Python", "quirk": "mutable default arguments"},
            {"language": "JavaScript", "quirk": "type coercion"},
        ]

        template_variables: list[TemplateVariables] = []
        for value in values:
            variables = await client.template_variables.add_to_collection(
                template_variables=value,
                collection=collection,
            )
            template_variables.append(variables)

        # Create an experiment for tracking responses and ratings
        experiment, _ = await client.experiments.get_or_create(
            "Programming Quirks Analysis",
            prompt_template=prompt_template,
            collection=collection,
            description="Evaluating explanations of programming language quirks",
        )

        responses = await client.responses.generate_many(
            prompt_template=prompt_template,
            template_variables=template_variables,
            experiment=experiment,
        )

        # Generate ratings for the `responses`
        batch_ratings = await client.ratings.rate_many(responses, rating_mode=RatingMode.FAST)

        for i, response in enumerate(responses):
            ratings = batch_ratings[i]
            print(f"\n\nResponse: {response.messages[-1].content}")
            for rating in ratings:
                print(f"Criteria: {rating.criterion.criterion_str}")
                print(f"Rating: {rating.rating}\n")


asyncio.run(main())
