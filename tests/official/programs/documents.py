"""Every document of the server, read by the official client's models: none lacks a field.

Runs with 0.6.12 and with 1.5.2. Prints how many objects of each of their classes were looked at.
"""

import json
import os
import sys
import urllib.request
from importlib import import_module
from importlib.metadata import version

from whole import seen, whole

ROOT = f"{os.environ['ELLUMINATE_BASE_URL']}/api/v0"
HEADERS = {
    "X-API-Key": os.environ["ELLUMINATE_API_KEY"],
    "SDK-Version": version("elluminate"),
    "Content-Type": "application/json",
}
IS_LATEST = version("elluminate") == "1.5.2"
SCHEMAS = import_module("elluminate.schemas")


def ask(method, path, body=None):
    url = ROOT + (path[1:] if path.startswith("//") else f"/projects/1{path}")
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, HEADERS, method=method)
    with urllib.request.urlopen(request) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def model(module, name):
    return getattr(import_module(f"elluminate.schemas.{module}"), name)


def setup():
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    template = ask(
        "POST",
        "/prompt_templates",
        {
            "name": "T",
            "messages": [{"role": "user", "content": "Say {{word}}."}],
            "tools": tools,
            "tool_choice": "auto",
            "response_format_json_schema": {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": {"type": "object"}},
            },
        },
    )
    ask(
        "POST",
        "/criteria",
        {
            "prompt_template_id": template["id"],
            "criteria": [
                {"criterion_str": "Is it short?", "label": "short"},
                {"criterion_str": "Is it?"},
            ],
        },
    )
    config = ask(
        "POST",
        "/llm_configs",
        {
            "name": "priced",
            "llm_model_name": "m",
            "input_price_per_mtok": 1.0,
            "output_price_per_mtok": 2.0,
        },
    )
    collection = ask(
        "POST",
        "/collections",
        {
            "name": "C",
            "variables": [{"word": "a", "kind": "x"}, {"word": "b", "kind": "y"}],
        },
    )
    own = {
        "prompt_template_id": template["id"],
        "collection_id": collection["id"],
        "llm_config_id": config["id"],
    }
    experiments = [
        ask("POST", "/experiments", {"name": name, **own, "generate": True, "n_epochs": 2})
        for name in ("A", "B")
    ]
    for one in experiments:
        task = f"/experiments/{one['id']}/generation/{one['generation_task_id']}"
        url = f"{ROOT}/projects/1{task}/stream"
        with urllib.request.urlopen(urllib.request.Request(url, headers=HEADERS)) as stream:
            stream.read()
        status = ask("GET", task)
        assert status["status"] == "SUCCESS", status
    metadata = {
        "llm_model_config": config,
        "duration_seconds": 1.5,
        "input_tokens": 10,
        "output_tokens": 20,
        "reasoning_tokens": 5,
        "cached_tokens": 3,
        "custom_api_info": {"provider": "p", "api_request_id": "r", "track_request_url": "u"},
    }
    item = {
        "template_variables_id": collection["variables"][0]["id"],
        "experiment_id": experiments[0]["id"],
        "epoch": 3,
        "messages": [{"role": "assistant", "content": "given"}],
        "metadata": metadata,
    }
    if not IS_LATEST:
        item["prompt_template_id"] = template["id"]
    added = ask("POST", "/responses", item)
    ask("PATCH", f"/responses/{added['id']}", {"annotation": "odd"})
    ask("POST", "/ratings", {"prompt_response_id": added["id"], "rating_mode": "detailed"})
    return template, collection, experiments, added


def read_all():
    template, collection, (a, b), added = setup()
    whole(model("project", "Project"), ask("GET", "//projects")["items"][0])
    whole(
        model("prompt_template", "PromptTemplate"),
        ask("GET", f"/prompt_templates/{template['id']}"),
    )
    whole(
        model("template_variables_collection", "TemplateVariablesCollectionWithEntries"),
        ask("GET", f"/collections/{collection['id']}"),
    )
    for entry in ask("GET", f"/collections/{collection['id']}/entries")["items"]:
        whole(model("template_variables", "TemplateVariables"), entry)
    for one in ask("GET", "/criteria")["items"]:
        whole(model("criterion", "Criterion"), one)
    for one in ask("GET", "/criterion_sets")["items"]:
        whole(model("criterion_set", "CriterionSet"), one)
    for one in ask("GET", "/llm_configs")["items"]:
        whole(model("llm_config", "LLMConfig"), one)
    for one in [*ask("GET", "/experiments")["items"], ask("GET", f"/experiments/{a['id']}")]:
        whole(model("experiments", "Experiment"), one)
        assert one["results"] is not None
    responses = ask("GET", "/responses")["items"]
    assert len(responses) == 9
    for one in [*responses, ask("GET", f"/responses/{added['id']}")]:
        whole(model("response", "PromptResponse"), one)
        assert len(one["ratings"]) == 2, one
        prompt = one["prompt"]
        assert prompt["resolved_tools"] == template["tools"]
        assert prompt["resolved_tool_choice"] == "auto"
        assert prompt["resolved_response_format"] == template["response_format_json_schema"]
        assert prompt["is_stale"] is False
    given = responses[-1]["generation_metadata"]
    assert given["custom_api_info"]["provider"] == "p"
    assert given["cached_tokens"] == 3
    ratings = ask("GET", f"/ratings?prompt_response_id={added['id']}")["items"]
    for one in ratings:
        whole(model("rating", "Rating"), one)
        assert one["reasoning"]
        assert one["generation_metadata"]["llm_model_config"]["llm_model_name"] == "offline"
    return a, b, collection


def read_what_is_new(a, b, collection):
    stats, sample = model("response", "ResponsesStats"), model("response", "ResponsesSample")
    samples = ask("GET", f"/responses/samples?experiment_id={a['id']}")
    assert [len(one["prompt_response_ids"]) for one in samples] == [3, 2]
    pairs = ask(
        "GET", f"/responses/comparison/samples?experiment_a_id={a['id']}&experiment_b_id={b['id']}"
    )
    assert len(pairs) == 4
    for one in [*samples, *pairs]:
        whole(sample, one)
    whole(stats, ask("GET", "/responses/stats?days=2"))
    page = whole(
        model("experiment_map", "ExperimentMap"),
        ask("GET", f"/experiments/{a['id']}/map?page=1&limit=1"),
    )
    assert (page["num_samples"], page["num_responses"], len(page["samples"])) == (2, 5, 1)


def main():
    a, b, collection = read_all()
    if IS_LATEST:
        read_what_is_new(a, b, collection)
    print(json.dumps(seen))


if __name__ == "__main__":
    sys.exit(main())
