import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import msgspec
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from agents.merchant.web import bodies, openapi
from agents.merchant.web.problems import TABLE, Code
from tests.agents.merchant.web.storefront import customer, open_shop, paid
from tests.agents.merchant.web.test_api import ORDERS, SONG, client, key_of
from tests.agents.world import Town
from tests.simulation.clock import VirtualClock

Json = dict[str, Any]
DOCUMENT: Json = json.loads(json.dumps(openapi.document("https://shop.example")))


def operations() -> Iterator[tuple[str, str, Json]]:
    for path, item in DOCUMENT["paths"].items():
        for method in ("get", "post"):
            if method in item:
                yield path, method.upper(), item[method]


def check(schema: Json, value: object) -> None:
    """The value is what the schema of the document says."""
    OAS31Validator({**schema, "components": DOCUMENT["components"]}).validate(value)


def check_answer(answer: httpx.Response, path: str) -> None:
    """The answer's status, media type and body are in the document."""
    (responses,) = (
        operation["responses"]
        for at, method, operation in operations()
        if (at, method) == (path, answer.request.method)
    )
    content = responses[str(answer.status_code)]["content"]
    check(content[answer.headers["content-type"]]["schema"], answer.json())
    for name in responses[str(answer.status_code)].get("headers", {}):
        assert name in answer.headers


@pytest.fixture
async def api(founded: Town) -> AsyncIterator[httpx.AsyncClient]:
    await founded.start_bank()
    await open_shop(founded, webhook="https://system.example/ecash")
    async with client(founded, key_of(founded)) as asking:
        yield asking


def test_the_document_is_one_of_openapi() -> None:
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names) == 6


def test_every_code_is_documented() -> None:
    told = json.dumps(DOCUMENT["paths"])
    codes = set(Code) - {Code.NOT_FOUND, Code.METHOD_NOT_ALLOWED}
    assert [code for code in codes if f"`{code}`: {TABLE[code].title}" not in told] == []


@pytest.mark.parametrize("kind", ["your own goods", "from the catalogue"])
async def test_the_examples_are_understood(api: httpx.AsyncClient, kind: str) -> None:
    taken = DOCUMENT["paths"]["/api/orders"]["post"]["requestBody"]["content"]["application/json"]
    example = taken["examples"][kind]["value"]
    check(taken["schema"], example)
    assert (await api.post(ORDERS, json=example)).status_code == 201


@pytest.mark.parametrize(
    ("schema", "body"),
    [
        ("NewOrder", {"lines": []}),
        ("NewOrder", {"lines": [{"text": "x", "price": 0}]}),
        ("NewOrder", {"lines": [{"text": "x", "price": 1, "sku": "x"}]}),
        ("NewCatalogueOrder", {"lines": [{"sku": "x", "quantity": 0}]}),
        ("NewRefund", {"amount": 0}),
        ("NewRefund", {"amount": 1, "to": "me"}),
    ],
)
async def test_what_the_document_forbids_is_refused(api: httpx.AsyncClient, schema: str, body: Json) -> None:
    ref = {"$ref": f"#/components/schemas/{schema}", "components": DOCUMENT["components"]}
    assert not OAS31Validator(ref).is_valid(body)
    path = f"{ORDERS}/{'0' * 32}/refunds" if schema == "NewRefund" else ORDERS
    assert (await api.post(path, json=body)).status_code == 400


async def test_real_answers_are_what_the_document_says(founded: Town, api: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "cart"}
    for body in (SONG, SONG, SONG | {"reference": "other"}):
        check_answer(await api.post(ORDERS, json=body, headers=key), ORDERS)
    order = (await api.post(ORDERS, json=SONG | {"reference": "cart-2"})).json()
    one, many = f"{ORDERS}/{order['id']}", f"{ORDERS}/{{id}}"
    check_answer(await api.get(one), many)
    check_answer(await api.get(f"{ORDERS}/{'0' * 32}"), many)
    check_answer(await api.post(f"{one}/refunds", json={"amount": 5}), f"{many}/refunds")
    async with customer(founded) as wallet:
        await paid(wallet, f'href="{order["link"]}"')
    check_answer(await api.get(one), many)
    for refund in ({"amount": 14}, {"amount": 5}, {"amount": 5, "granted": 0}, {"amount": 8}, {"amount": 1}, {}):
        check_answer(await api.post(f"{one}/refunds", json=refund), f"{many}/refunds")
    for query in ("", "?limit=1", "?limit=0", f"?before={order['id']}", f"?before={'0' * 32}"):
        check_answer(await api.get(f"{ORDERS}{query}"), ORDERS)
    for wrong in ({"lines": [{"sku": "none"}]}, {"currency": "EUR"}, {"bank": "south"}, {"reference": 1}):
        check_answer(await api.post(ORDERS, json=SONG | wrong), ORDERS)
    check_answer(await api.post(ORDERS, content=b"x"), ORDERS)
    check_answer(await api.post(ORDERS, content=b" " * 99_999, headers={"Content-Type": "application/json"}), ORDERS)
    async with client(founded) as stranger:
        check_answer(await stranger.get(ORDERS), ORDERS)
        check_answer(await stranger.get("/api/openapi.json"), "/api/openapi.json")
        check_answer(await stranger.get("/api/health"), "/api/health")
        founded.shop.ready.clear()
        check_answer(await stranger.get("/api/health"), "/api/health")
    check_answer(await api.get(ORDERS), ORDERS)


async def test_the_document_that_is_served_names_the_server(api: httpx.AsyncClient) -> None:
    served = (await api.get("/api/openapi.json")).json()
    assert served == DOCUMENT | {"servers": [{"url": "http://127.0.0.1:8080"}]}


async def test_real_webhooks_are_what_the_document_says(
    founded: Town, api: httpx.AsyncClient, clock: VirtualClock
) -> None:
    async with customer(founded) as wallet:
        order = (await api.post(ORDERS, json=SONG)).json()
        await paid(wallet, f'href="{order["link"]}"')
    notices = await founded.shop.outbox.notices()
    assert [notice.kind for notice in notices] == ["order.paid"]
    for notice in notices:
        webhook = DOCUMENT["webhooks"][notice.kind]["post"]
        check(webhook["requestBody"]["content"]["application/json"]["schema"], json.loads(notice.body))
        msgspec.json.decode(notice.body, type=bodies.Event)
        names = {one["name"] for one in webhook["parameters"]}
        assert names == {"webhook-id", "webhook-timestamp", "webhook-signature"}
