"""How problems and the common headers stand in the OpenAPI document."""

from typing import Any

from matinee.serving.api.problems import PROBLEM_JSON, Problem

HEADERS: dict[str, Any] = {
    "X-Request-Id": {
        "description": "The id of this answer; the log knows it.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    },
    "X-Model-Version": {
        "description": "The bundle that the answer comes from; `none` where there is none.",
        "required": True,
        "schema": {"type": "string"},
    },
    "X-Matinee-Step": {
        "description": "The step of the fallback chain that answered; `none` where nothing was recommended.",
        "required": True,
        "schema": {
            "type": "string",
            "enum": ["personal", "folded_in", "popular_in_segment", "popular", "mixed", "none"],
        },
    },
}
"""The headers of every answer."""
_SAID = {
    400: "The body is no JSON, or the request cannot be read.",
    401: "There is no API key, or none that is valid.",
    403: "The API key may not do this.",
    404: "There is no such thing.",
    409: "An event lies ahead of this server's clock.",
    408: "The request did not come in time.",
    413: "The body is larger than is taken.",
    414: "Path and query are longer than is taken.",
    415: "The body is not called JSON.",
    422: "The request can be read, but is not what this operation takes.",
    429: "Too many requests.",
    431: "The headers are larger than is taken.",
    503: "Not now; `Retry-After` says when to try again.",
}
_ALWAYS = (400, 401, 403, 408, 413, 414, 422, 431, 503)


def problems(*more: int) -> dict[int | str, dict[str, Any]]:
    """The problems that an operation can end in: those of all, and `more`; as FastAPI takes `responses`."""
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    return {
        status: {"description": _SAID[status], "content": {PROBLEM_JSON: {"schema": schema}}}
        for status in sorted({*_ALWAYS, *more})
    }
