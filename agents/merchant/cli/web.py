"""`ecash merchant web`: with which keys the shop's pages are opened, and where its own system is told of orders."""

from typing import Annotated

import msgspec
import typer
from rich.markup import escape

from ...home import save_settings
from ...terminal import JsonFlag, fail, out, print_json, told
from ...world import SystemEntropy
from ..home import Settings, WebKeys, new_web_keys, settings_of, web_keys
from .app import HOME, Home, app


@app.command("web")
@told
def web(
    webhook: Annotated[
        str, typer.Option(help="Where your own system is told of orders: https://…, or http://localhost….")
    ] = "",
    no_webhook: Annotated[bool, typer.Option("--no-webhook", help="It is not told any more.")] = False,
    public_url: Annotated[
        str, typer.Option(help="The address at which buyers find the pages: https://shop.example.")
    ] = "",
    new_keys: Annotated[
        bool, typer.Option("--new-keys", help="Makes new keys; the old ones open nothing any more.")
    ] = False,
    home: Home = HOME,
    as_json: JsonFlag = False,
) -> None:
    """Show the keys of the shop's office, of its API and of its webhooks, and set where webhooks go.

    A shop that is open reads them when it starts.

    Example: ecash merchant web --webhook https://shop.example/ecash
    """
    if webhook and no_webhook:
        fail("say --webhook or --no-webhook")
    before = settings_of(home)
    changes = {"webhook": webhook} if webhook or no_webhook else {}
    if public_url:
        changes["public_url"] = public_url
    # As if they were read from the file, so that what is wrong is said in the same words.
    settings = msgspec.convert(msgspec.to_builtins(before) | changes, Settings)
    if settings != before:
        save_settings(home, "merchant", settings)
    keys = (new_web_keys if new_keys else web_keys)(home, SystemEntropy())
    if as_json:
        print_json(
            {
                "office_key": keys.office,
                "api_key": keys.api,
                "webhook_secret": keys.webhook,
                "webhook": settings.webhook,
                "public_url": settings.public_url,
            }
        )
        return
    _print(settings, keys, changed=new_keys or settings != before)


def _print(settings: Settings, keys: WebKeys, *, changed: bool) -> None:
    rows = {
        "Shop": settings.public_url or "where `ecash merchant run --web :8080` serves it",
        "Office": "/office there",
        "Office key": keys.office,
        "API": "/api there; what it is: /api/openapi.json",
        "API key": keys.api,
        "Webhook": settings.webhook or "none: your own system is not told of orders",
        "Webhook secret": keys.webhook,
    }
    for label, value in rows.items():
        secret = "key" in label or "secret" in label
        out.print(f"{label:<15}" + (f"[bold]{value}[/]" if secret else escape(value)), soft_wrap=True)
    if changed:
        out.print("A shop that is open reads this when it starts: stop it and start it again.")
