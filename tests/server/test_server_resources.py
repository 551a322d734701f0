"""Templates, criteria, collections, entries, configurations, projects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from elluminate_async.testing import VIRTUAL_TIME

if TYPE_CHECKING:
    from tests.server.api import Api


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


async def test_version_check_names_capabilities(api: Api) -> None:
    """The version check says yes and lists what the server offers beyond the protocol."""
    answer = await api.post("//version/compatible", {"current_sdk_version": "0.6.12"})
    assert answer["is_compatible"] is True
    assert answer["capabilities"] == [
        "cancellation",
        "equal-entries",
        "idempotency-keys",
        "item-keys",
        "results-with-status",
    ]


async def test_first_project_is_there(api: Api) -> None:
    """A new server has one project, with all that official clients require of it."""
    (project,) = (await api.get("//projects"))["items"]
    assert project["id"] == 1
    assert project["organization"]["name"]
    assert "stripe_subscription_id" in project["organization"]


async def test_second_project_is_empty(api: Api) -> None:
    """What is in one project is not found in another."""
    template = await api.template()
    project = await api.post("//projects", {"name": "P2", "organization_id": 1})
    path = f"//projects/{project['id']}/prompt_templates"
    assert (await api.get(path))["items"] == []
    assert (await api("GET", f"{path}/{template['id']}")).status == 404


async def test_equal_template_is_a_conflict_with_its_id(api: Api) -> None:
    """The same name and content again gives 409 with the id of the first at top level."""
    first = await api.template("a {{x}}")
    messages = [{"role": "user", "content": "a {{x}}"}]
    answer = await api("POST", "/prompt_templates", {"name": "T", "messages": messages})
    assert answer.status == 409
    assert answer.body["prompt_template_id"] == first["id"]
    assert isinstance(answer.body["detail"], str)


@pytest.mark.parametrize("version", ["", "&version=None", "&version=latest"])
async def test_template_by_name_is_the_latest(api: Api, version: str) -> None:
    """Without a version, or with a word for none, the newest version comes first."""
    await api.template("one {{a}}")
    second = await api.template("two {{b}}")
    found = await api.items(f"/prompt_templates?name=T{version}&sort_options=%7B%7D")
    assert found[0] == second
    assert second["version"] == 2
    assert second["placeholders"] == ["b"]


async def test_template_of_a_version(api: Api) -> None:
    """A version number gives that version; an unknown name gives an empty page, not 404."""
    first = await api.template("one")
    await api.template("two")
    assert await api.items("/prompt_templates?name=T&version=1") == [first]
    assert await api.get("/prompt_templates?name=unknown") == {"items": [], "count": 0}


async def test_compatible_templates(api: Api) -> None:
    """A collection's compatible templates are those whose placeholders it has."""
    fits = await api.template("{{a}}", "fits")
    await api.template("{{a}} {{b}}", "needs more")
    collection = await api.post("/collections", {"name": "C", "variables": [{"a": "1"}]})
    path = f"/prompt_templates?compatible_collection_id={collection['id']}"
    assert await api.items(path) == [fits]
    path = f"/collections?compatible_prompt_template_id={fits['id']}"
    assert [one["name"] for one in await api.items(path)] == ["C"]


async def test_criteria_are_reused_by_text(api: Api) -> None:
    """Adding an equal text gives the criterion that is there, in the order asked for."""
    await api.template()
    first = await api.add_criteria(["a?", "b?"])
    again = await api.add_criteria(["c?", "a?"])
    assert [one["criterion_str"] for one in again] == ["c?", "a?"]
    assert again[1]["id"] == first[0]["id"]
    assert len(await api.items("/criteria?prompt_template_id=1&page=1")) == 3


async def test_criteria_link_a_set_to_the_template(api: Api) -> None:
    """A template without a set gets one with its first criteria."""
    await api.template()
    await api.add_criteria(["a?"])
    template = await api.get("/prompt_templates/1")
    assert template["criterion_set_id"] is not None
    criterion_set = await api.get(f"/criterion_sets/{template['criterion_set_id']}")
    assert criterion_set["prompt_templates"] == criterion_set["linked_prompt_templates"]
    assert criterion_set["linked_prompt_templates"][0]["id"] == 1


async def test_generating_criteria_again_is_a_conflict(api: Api) -> None:
    """Criteria are generated once; again only with delete_existing."""
    await api.template()
    await api.add_criteria(["a?"])
    body: dict[str, Any] = {"prompt_template_id": 1, "criteria": None}
    assert (await api("POST", "/criteria", body)).status == 409


async def test_criteria_are_cleared(api: Api) -> None:
    """No criteria with delete_existing takes all away."""
    await api.template()
    await api.add_criteria(["a?"])
    body: dict[str, Any] = {"prompt_template_id": 1, "criteria": [], "delete_existing": True}
    assert await api.post("/criteria", body) == []
    assert await api.items("/criteria?prompt_template_id=1") == []


async def test_criterion_is_edited_and_deleted(api: Api) -> None:
    """A criterion can be read, renamed and deleted."""
    await api.template()
    (criterion,) = await api.add_criteria(["a?"])
    path = f"/criteria/{criterion['id']}"
    assert (await api("PUT", path, {"label": "L"})).body["label"] == "L"
    assert (await api.get(path))["criterion_str"] == "a?"
    assert (await api("DELETE", path)).status == 204
    assert (await api("GET", path)).status == 404


async def test_criterion_sets(api: Api) -> None:
    """A set is made once by name, found by name, linked, unlinked and deleted."""
    body = {"name": "S", "criteria": [{"criterion_str": "a?", "label": "l"}]}
    made = await api.post("/criterion_sets", body)
    assert (await api("POST", "/criterion_sets", body)).status == 409
    assert await api.items("/criterion_sets?name=S") == [made]
    await api.template()
    link = f"/criterion_sets/{made['id']}/prompt_templates/1"
    assert (await api("PUT", link)).body["linked_prompt_templates"][0]["id"] == 1
    assert (await api("DELETE", link)).status == 204
    assert (await api.get("/prompt_templates/1"))["criterion_set_id"] is None
    assert (await api("DELETE", f"/criterion_sets/{made['id']}")).status == 204


async def test_collection_has_its_rows_and_columns(api: Api) -> None:
    """Columns follow from the rows' keys; create and get answer with all rows."""
    made = await api.post("/collections", {"name": "C", "variables": [{"a": "1"}, {"b": 2}]})
    assert [column["name"] for column in made["columns"]] == ["a", "b"]
    assert [one["input_values"] for one in made["variables"]] == [{"a": "1"}, {"b": 2}]
    assert made["variables_count"] == 2
    assert await api.get(f"/collections/{made['id']}") == made
    assert "variables" not in (await api.items("/collections?name=C"))[0]


async def test_collection_name_is_taken_once(api: Api) -> None:
    """The same name again is 409; no name gets one from the server."""
    await api.post("/collections", {"name": "C"})
    assert (await api("POST", "/collections", {"name": "C"})).status == 409
    assert (await api.post("/collections", {"description": ""}))["name"]


async def test_collection_is_edited(api: Api) -> None:
    """The wanted columns come in order; names that stay keep their ids."""
    made = await api.post("/collections", {"name": "C", "variables": [{"a": "1", "b": "2"}]})
    columns = [{"name": "b"}, {"name": "new"}]
    answer = await api("PUT", f"/collections/{made['id']}", {"name": "D", "columns": columns})
    assert answer.body["name"] == "D"
    assert [column["name"] for column in answer.body["columns"]] == ["b", "new"]
    assert answer.body["columns"][0]["id"] == made["columns"][1]["id"]


async def test_read_only_collection_keeps_its_rows(api: Api) -> None:
    """Rows of a read-only collection cannot be added or cleared."""
    body = {"name": "C", "read_only": True, "variables": [{"a": "1"}]}
    path = f"/collections/{(await api.post('/collections', body))['id']}/entries"
    assert (await api("POST", path, {"input_values": {"a": "2"}})).status == 403
    assert (await api("DELETE", path)).status == 403


async def test_equal_entry_is_returned_not_repeated(api: Api) -> None:
    """Adding one row twice gives the same row twice."""
    await api.post("/collections", {"name": "C"})
    body = {"input_values": {"a": "1"}, "prompt_template_id": None}
    first = await api.post("/collections/1/entries", body)
    assert (await api.post("/collections/1/entries", body))["id"] == first["id"]
    assert first["collection"]["columns"][0]["name"] == "a"


async def test_entry_is_edited_and_deleted(api: Api) -> None:
    """A row can be read, replaced and deleted; another collection's path does not find it."""
    await api.post("/collections", {"name": "C", "variables": [{"a": "1"}]})
    await api.post("/collections", {"name": "D"})
    assert (await api("GET", "/collections/2/entries/1")).status == 404
    answer = await api("PUT", "/collections/1/entries/1", {"input_values": {"a": "2"}})
    assert answer.body["input_values"] == {"a": "2"}
    assert (await api("DELETE", "/collections/1/entries/1")).status == 204
    assert await api.items("/collections/1/entries") == []


def jsonl(text: str) -> aiohttp.FormData:
    form = aiohttp.FormData()
    form.add_field("file", text, filename="variables.jsonl", content_type="application/jsonl")
    return form


async def test_entries_from_a_file(api: Api) -> None:
    """A JSONL file adds its rows in order; skip_existing leaves out what is there."""
    await api.post("/collections", {"name": "C"})
    path = "/collections/1/entries/batches"
    made = await api.post(path, data=jsonl('{"a":"1"}\n{"a":"2"}'))
    assert [one["input_values"]["a"] for one in made] == ["1", "2"]
    rows = '{"a":"3"}\n{"a":"2"}\n{"a":"3"}\n{"a":"4"}'
    made = await api.post(f"{path}?skip_existing=true", data=jsonl(rows))
    assert [one["input_values"]["a"] for one in made] == ["3", "4"]
    assert (await api.get("/collections/1"))["variables_count"] == 4


async def test_bad_file_adds_nothing(api: Api) -> None:
    """A line that is not an object refuses the whole file and is named."""
    await api.post("/collections", {"name": "C"})
    answer = await api("POST", "/collections/1/entries/batches", data=jsonl('{"a":"1"}\n[1]'))
    assert answer.status == 400
    assert "line 2" in answer.body["detail"]
    assert await api.items("/collections/1/entries") == []


async def test_llm_config_never_shows_its_key(api: Api) -> None:
    """A configuration's key goes in and does not come out."""
    body = {"name": "M", "llm_model_name": "m", "api_key": "sk-canary", "llm_base_url": None}
    made = await api.post("/llm_configs", body)
    assert made["api_key"] is None
    assert "sk-canary" not in str(await api.get("/llm_configs"))
    assert (await api("POST", "/llm_configs", body)).status == 409
    assert [one["id"] for one in await api.items("/llm_configs?name=M")] == [made["id"]]
    assert (await api("DELETE", f"/llm_configs/{made['id']}")).status == 204


async def test_unknown_paths_are_json_errors(api: Api) -> None:
    """Every error has a JSON object and a request id."""
    answer = await api("GET", "/nothing/here")
    assert answer.status == 404
    assert "detail" in answer.body
    assert answer.headers["X-Request-Id"]
    answer = await api("POST", "/collections", {"name": 5})
    assert answer.status == 422
    assert answer.body["detail"][0]["loc"] == ["body", "name"]


@pytest.mark.parametrize("value", ["\ud800", float("nan"), float("inf")])
async def test_what_json_cannot_hold_is_refused(api: Api, value: object) -> None:
    """Half a character and numbers that are none are 422, not a failure of the server."""
    body = {"name": "C", "variables": [{"a": value}]}
    assert (await api("POST", "/collections", body)).status == 422
