"""`/docs`: Swagger UI, from files that come with the program. Nothing comes from elsewhere, nothing is inline."""

from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, FastAPI
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of the page. Swagger UI sets style attributes and draws its icons from data: URLs."""

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>matinee API</title>
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
<link rel="icon" href="/docs/assets/favicon.png">
</head>
<body>
<div id="docs"></div>
<noscript>This page needs JavaScript; the same document is at <a href="/openapi.json">/openapi.json</a>.</noscript>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START = """\
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  persistAuthorization: false,
  tryItOutEnabled: true,
  validatorUrl: null,
});
"""
"""`validatorUrl`: else the page would send the document to a service elsewhere."""

_pages = APIRouter(include_in_schema=False)


@_pages.get("/docs")
async def show_documentation() -> Response:
    """The page."""
    return HTMLResponse(_PAGE, headers={"content-security-policy": POLICY})


@_pages.get("/docs/start.js")
async def start_documentation() -> Response:
    """What starts Swagger UI: a file of its own, since the policy allows no inline script."""
    return Response(_START, media_type="text/javascript")


def add_documentation(app: FastAPI) -> None:
    """Let an application answer `/docs`."""
    app.include_router(_pages)
    app.mount("/docs/assets", StaticFiles(directory=_assets()), name="docs-assets")


def _assets() -> Path:
    """Where the distribution fastapi-offline keeps Swagger UI; looked up without importing it."""
    spec = find_spec("fastapi_offline")
    assert spec is not None and spec.submodule_search_locations  # noqa: PT018 - a dependency of matinee
    return Path(spec.submodule_search_locations[0]) / "static"
