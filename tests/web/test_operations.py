from __future__ import annotations

import pytest
from flask import Flask

from iris_api.web.auth import public
from iris_api.web.operations import Operation, Route, operation, routes_of


@pytest.fixture
def routes() -> dict[str, Route]:
    """The routes of a small application, by path."""
    app = Flask("small", static_folder=None)

    @app.get("/v2/parts/<int:number>", endpoint="parts")
    @app.get("/parts/<int:number>", endpoint="parts_alias")
    @public
    @operation("Parts", dict, parameters={"number": ["1", "2"]})
    def parts(number: int) -> str:
        """Describe a part.

        The second paragraph is not part of the summary.
        """
        return str(number)

    return {route.path: route for route in routes_of(app)}


def test_a_route_has_the_declaration_of_its_view(routes: dict[str, Route]) -> None:
    """Its path is a template, its summary the first line of the docstring."""
    route = routes["/v2/parts/{number}"]
    assert route.declared == Operation("Parts", (dict,), parameters={"number": ["1", "2"]})
    assert (route.id, route.summary, route.methods) == ("parts", "Describe a part.", ["GET"])
    assert route.parameters == {"number": ["1", "2"]}
    assert route.public
    assert not route.is_alias


def test_a_second_path_of_a_view_is_an_alias(routes: dict[str, Route]) -> None:
    """Its summary names the first path."""
    route = routes["/parts/{number}"]
    assert route.is_alias
    assert "/v2/parts/" in route.summary
