"""Differences of the two sides that are on purpose: by operation, each line with its reason.

All else is a failure, and so is a line here that has not occurred.
"""

from __future__ import annotations

KEY = "a second sending is harmless with a key, which the server keeps with its answer"
STREAM = "a job is followed by its stream, and ends without a wait; the official client polls"
ROWS_READ = "the results come with the job's last status; the official client lists responses"
ON_ITS_OWN = "an experiment comes without its responses, which a listing of its own reads in pages"
TEMPLATE = "services of the time of 0.6 want the template with each response"
MESSAGE = "a message is sent as it was given; the official client adds keys without a value"
FIRST_TRIED = "creating is tried first: two at once then make one; the official client looks first"
LABEL = "a criterion without a label is sent without one"
EXISTING = "the answer has the rows that exist too, which then need not be looked for"
PAGED = "all pages are read, the first as a page"


def keyed(path: str, *, conflict: bool = False) -> dict[str, str]:
    """A POST with an idempotency key, which the server then stores unless it conflicts."""
    sent = f"ours: POST {path} header Idempotency-Key=given"
    stored = f"ours: idempotency 1 /api/v0/projects/1{path}"
    return dict.fromkeys([sent] if conflict else [sent, stored], KEY)


def followed(path: str, *, query: str = "") -> dict[str, str]:
    """A job that is followed by its stream, not polled."""
    status = f"{path}/{{task}}"
    return {f"ours: GET {status}/stream": STREAM, f"official: GET {status}{query}": STREAM}


def listed(query: str, reason: str, *, times: int = 1) -> dict[str, str]:
    """Responses that only the official client lists."""
    often = "" if times == 1 else f", {times} times"
    return {f"official: GET /responses?{query}{often}": reason}


def bare(place: str, *rows: str) -> dict[str, str]:
    """Keys of messages, in the body and in what is stored."""
    keys = ["annotations=null", "audio=null", "function_call=null", "refusal=null", "tool_calls=[]"]
    return {f"official: {one}.{key}": MESSAGE for one in (place, *rows) for key in keys}


_RESPONSES, _ITEMS = "POST /responses/batches", "prompt_response_ins"
_OF_ITEMS = {
    f"ours: {_RESPONSES} body {_ITEMS}[{place}].prompt_template_id=1": TEMPLATE for place in (0, 1)
}

INTENDED: dict[str, dict[str, str]] = {
    "list projects": {"ours: GET /projects query page=1": PAGED},
    "create a project": {
        "ours: GET /projects?page=1": "which organisation it is for is read when it is needed",
    },
    "create a template": keyed("/prompt_templates"),
    "get or create a template that exists": keyed("/prompt_templates", conflict=True),
    "create the next version of a template": keyed("/prompt_templates"),
    "list templates": {
        "official: GET /prompt_templates query sort_options={}": "no sorting is asked for",
    },
    "generate criteria": keyed("/criteria"),
    "get or generate criteria that exist": keyed("/criteria", conflict=True),
    "add criteria to a template": keyed("/criteria"),
    "create a criterion set": {
        **keyed("/criterion_sets"),
        "official: POST /criterion_sets body criteria[0].label=null": LABEL,
        "official: POST /criterion_sets body criteria[1].label=null": LABEL,
    },
    "get or create a criterion set that exists": {"ours: POST /criterion_sets": FIRST_TRIED},
    "empty a criterion set": keyed("/criteria"),
    "create a collection": {
        **keyed("/collections"),
        'official: POST /collections body collection_type="STANDARD"': "the service's own default",
    },
    "get a collection by name": {
        "official: GET /collections/1": "a collection comes without its rows, which are listed",
    },
    "get or create a collection that exists": {
        **keyed("/collections", conflict=True),
        'official: POST /collections body collection_type="STANDARD"': "the service's own default",
        "official: GET /collections/1": "a collection comes without its rows, which are listed",
    },
    "add a row": keyed("/collections/2/entries"),
    "add rows that are new": {
        **keyed("/collections/2/entries/batches"),
        "ours: POST /collections/2/entries/batches query return_existing=true": EXISTING,
    },
    "generate a row": keyed("/collections/2/entries"),
    "create a configuration": keyed("/llm_configs"),
    "get or create a configuration that exists": {"ours: POST /llm_configs": FIRST_TRIED},
    "create an experiment": keyed("/experiments"),
    "run an experiment": {
        **keyed("/experiments/1/run"),
        **followed("/experiments/1/generation"),
        **listed("experiment_id=1&page=1", ON_ITS_OWN),
    },
    "retry what failed of an experiment": {
        **keyed("/experiments/3/retry-failed"),
        **followed("/experiments/3/generation"),
        **listed("experiment_id=3&page=1", ON_ITS_OWN),
    },
    "clone an experiment": keyed("/experiments"),
    "read the map of an experiment": {
        "ours: GET /experiments/2/map query limit=100": "fewer pages",
        "official: GET /experiments/2/map query limit=50": "fewer pages",
    },
    "generate a response": {
        **keyed("/responses/generate"),
        "ours: POST /responses/generate body prompt_template_id=1": TEMPLATE,
    },
    "generate responses": {
        **keyed("/responses/batches"),
        **followed("/responses/batches"),
        **listed("experiment_id=1&page=1", ROWS_READ, times=2),
        **_OF_ITEMS,
    },
    "add a response": {
        **keyed("/responses"),
        "ours: POST /responses body prompt_template_id=1": TEMPLATE,
        **bare("POST /responses body messages[0]", "responses 7 messages[0]"),
    },
    "add responses": {
        **keyed("/responses/batches"),
        **followed("/responses/batches"),
        **listed("experiment_id=1&page=1", ROWS_READ, times=2),
        **_OF_ITEMS,
        **bare(f"{_RESPONSES} body {_ITEMS}[0].messages[0]", "responses 7 messages[0]"),
        **bare(f"{_RESPONSES} body {_ITEMS}[1].messages[0]", "responses 8 messages[0]"),
    },
    "rate a response": keyed("/ratings"),
    "rate responses": {
        **keyed("/ratings/batches"),
        **followed("/ratings/batches"),
        **listed("page=1&response_ids=1,2,3,4", ROWS_READ),
    },
    "rate responses, seen as it goes": {
        **keyed("/ratings/batches"),
        **listed("page=1&response_ids=1,2,3,4", ROWS_READ),
        "official: GET /ratings/batches/{task}/stream query polling_interval=0.5": (
            "the service chooses how often it tells"
        ),
    },
    "create a scenario set": keyed("/scenario-sets"),
    "add a field to a scenario set": keyed("/scenario-sets/1/fields"),
    "add scenarios": keyed("/scenario-sets/1/scenarios/batch"),
    "upload agents' results, and wait": {
        **keyed("/experiments/4/agent-results"),
        **followed("/experiments/4/generation", query="?connection_uuid={task}"),
    },
}
