"""`headwater keys`: who may use the endpoint. Parses and prints; the keys are serving's business."""

from typing import Annotated, Any

import typer

from headwater.commands.common import Json, console, plain, print_json, reports_errors
from headwater.settings import Settings

app = typer.Typer(help="Who may use the endpoint, and how much.", no_args_is_help=True)
KeyId = Annotated[str, typer.Argument(help="An id, or its beginning.")]


@app.command("create")
@reports_errors
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    *,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="chat, embeddings, feedback or metrics; several times for several. Default: chat"
            " and embeddings."
        ),
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Default: no bound.")
    ] = None,
    tokens_per_day: Annotated[
        int | None, typer.Option(min=1, help="Of prompts and answers. Default: no bound.")
    ] = None,
    days: Annotated[
        float | None, typer.Option(min=0.001, max=36_500, help="Until it expires. Default: never.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a key; its secret is shown this once, on standard output.

    From the first key on the endpoint answers nobody without one, on this machine either.
    """
    from headwater.serving import keys

    made, secret = keys.create(
        Settings(),
        name,
        scopes=scope or keys.DEFAULT_SCOPES,
        requests_per_minute=requests_per_minute,
        tokens_per_day=tokens_per_day,
        days=days,
    )
    console.print(f"Key {made.id} ({plain(made.name)}) may use: {', '.join(made.scopes)}.")
    _give(made.public(), secret, as_json=as_json)


@app.command("list")
@reports_errors
def list_(*, as_json: Json = False) -> None:
    """Every key, also revoked and expired ones; never a secret."""
    from headwater.serving.keys import read_keys

    found = [key.public() for key in read_keys(Settings()).values()]
    found.sort(key=lambda key: (key["created"], key["id"]))
    for key in found:
        quota = [
            f"{key['requests_per_minute']} requests/min" if key["requests_per_minute"] else "",
            f"{key['tokens_per_day']} tokens/day" if key["tokens_per_day"] else "",
            f"until {key['expires'][:16]}" if key["expires"] else "",
        ]
        console.print(
            f"{key['id']}  {key['state']:<8} {plain(key['name']):<20} {','.join(key['scopes'])}"
            f"  {', '.join(part for part in quota if part)}".rstrip(),
            soft_wrap=True,
        )
    if not found:
        console.print("There is no key: whoever is on this machine may use the endpoint.")
    if as_json:
        print_json({"keys": found})


@app.command("revoke")
@reports_errors
def revoke(key: KeyId, *, as_json: Json = False) -> None:
    """End a key; a running endpoint refuses it at once."""
    from headwater.serving import keys

    revoked = keys.revoke(Settings(), key)
    console.print(f"Key {revoked.id} ({plain(revoked.name)}) is revoked.")
    if as_json:
        print_json(revoked.public())


@app.command("rotate")
@reports_errors
def rotate(
    key: KeyId,
    *,
    grace_minutes: Annotated[
        float, typer.Option(min=0, max=43_200, help="For which the secret so far stays valid.")
    ] = 60.0,
    as_json: Json = False,
) -> None:
    """Give a key another secret, shown this once; the one so far ends after the grace."""
    from headwater.serving import keys

    rotated, secret = keys.rotate(Settings(), key, grace=60 * grace_minutes)
    console.print(
        f"Key {rotated.id} ({plain(rotated.name)}) has another secret. The one so far "
        + (f"is valid until {rotated.old_until}." if rotated.old_until else "has ended.")
    )
    _give(rotated.public(), secret, as_json=as_json)


def _give(public: dict[str, Any], secret: str, *, as_json: bool) -> None:
    console.print("Keep it now: it is stored nowhere and cannot be shown again.")
    if as_json:
        print_json({**public, "secret": secret})
    else:
        print(secret, flush=True)
