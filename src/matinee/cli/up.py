"""`matinee up …`: all roles on one machine; and the files for a pair of balancers."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from matinee.cli.context import Context, HomeOption, JsonOption, open_context
from matinee.cli.output import aside, emit, people
from matinee.core.errors import StoreUnavailable

app = typer.Typer(invoke_without_command=True)

ReplicasOption = Annotated[
    int | None, typer.Option("--replicas", min=1, max=64, help="Servers behind the balancer.", show_default="2")
]
PortOption = Annotated[
    int | None,
    typer.Option("--port", min=1, max=65_535, help="Port the balancer listens on.", show_default="8080"),
]
WorldOption = Annotated[
    int | None,
    typer.Option(
        "--world",
        min=1,
        help="Add a simulated streaming service of so many viewers, who ask, watch and rate.",
        show_default="none",
    ),
]


@app.callback()
def run(
    context: typer.Context,
    replicas: ReplicasOption = None,
    port: PortOption = None,
    world: WorldOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run everything on this machine until Ctrl-C or SIGTERM: a stream is learnt from, and answered.

    Servers behind a balancer, ingest, training at set times (`schedule.train`), and, where `metadata.item_url` or
    `metadata.user_url` is set, asking for descriptions. A home may be empty: until there is something to learn
    from, requests are answered 503 with `Retry-After`; then by what is popular, until a model passes the gate.

    With `--world 100000` a simulated streaming service of so many viewers joins (`[simulation]` in the settings):
    it lives an hour in a minute until it has reached the present. `logs/world.out` tells what its viewers get.

    What dies is started again. Ending goes in order: the balancer takes nothing new, the servers finish what they
    have begun, ingest commits. With `--json`, the object is written when everything runs.
    """
    if context.invoked_subcommand is not None:
        _refuse_options_before_the_verb(context)
        return
    from matinee.operation.running import plan, run  # noqa: PLC0415 - a verb imports what it uses

    opened = _open(home, replicas, port, world)
    planned = plan(opened.settings, opened.home)
    document = {
        "url": planned.balancer.url,
        "statistics": f"http://127.0.0.1:{planned.balancer.stats_port}/",
        "servers": [{"name": server.name, "address": server.address} for server in planned.balancer.servers],
    }

    def started() -> None:
        if as_json:
            emit(document)
            return
        aside.print(
            f"Up: {planned.balancer.url}/recommend/<user>, {len(planned.balancer.servers)} servers.", markup=False
        )
        if planned.world is not None:
            simulated = opened.settings.simulation.viewers
            aside.print(f"A world of {simulated:,} viewers; what they get: {opened.home.logs / 'world.out'}.")
        aside.print(f"Statistics: {document['statistics']}; `matinee up status` tells more; Ctrl-C ends all of it.")

    run(planned, opened.home, started)


@app.command()
def status(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Say what runs, and what the balancer thinks of each server."""
    from matinee.operation.haproxy import Administration  # noqa: PLC0415
    from matinee.operation.layout import socket_in  # noqa: PLC0415
    from matinee.operation.supervisor import Control  # noqa: PLC0415

    opened = open_context("up-status", home)
    processes = Control(socket_in(opened.home, "supervisor")).processes()
    try:
        entries = {entry.name: entry for entry in Administration(socket_in(opened.home, "haproxy")).entries()}
    except StoreUnavailable:
        entries = {}  # the table says that the balancer does not run
    if as_json:
        emit(
            {
                "processes": [asdict(process) for process in processes],
                "servers": [asdict(entry) for entry in entries.values()],
            }
        )
        return
    table = Table("process", "state", "pid", "for", "address", "at the balancer", "under way")
    for process in processes:
        entry = entries.get(process.name)
        at = (entry.address, entry.status, str(entry.requests)) if entry else ("", "", "")
        table.add_row(process.name, process.state, str(process.pid or ""), f"{process.seconds:,} s", *at)
    people.print(table)


@app.command()
def restart(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Restart all servers, one at a time, so that no request fails.

    Each is taken out at the balancer, finishes, is started again, and gets its full share before the next one.
    """
    from matinee.operation.haproxy import Administration  # noqa: PLC0415
    from matinee.operation.layout import socket_in  # noqa: PLC0415
    from matinee.operation.rolling import restart_servers  # noqa: PLC0415
    from matinee.operation.supervisor import Control  # noqa: PLC0415

    opened = open_context("up-restart", home)
    with opened.home.lock("up-restart"):
        names = restart_servers(
            Administration(socket_in(opened.home, "haproxy")),
            Control(socket_in(opened.home, "supervisor")),
            opened.clock,
            lambda server, what: aside.print(f"{server} {what}", markup=False),
        )
    if as_json:
        emit({"restarted": names})
    else:
        people.print(f"Restarted {', '.join(names)}.")


@app.command()
def config(
    replicas: ReplicasOption = None,
    port: PortOption = None,
    world: WorldOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the files that `matinee up` would write and run with."""
    from matinee.operation.running import plan  # noqa: PLC0415

    opened = _open(home, replicas, port, world)
    _show(plan(opened.settings, opened.home).files, as_json=as_json)


@app.command()
def pair(
    balancers: Annotated[
        tuple[str, str], typer.Option("--balancers", help="Addresses of the two machines, the preferred one first.")
    ],
    virtual: Annotated[
        str, typer.Option("--address", help="The address they share, with its network: 192.0.2.10/24.")
    ],
    servers: Annotated[
        list[str], typer.Option("--server", help="A server behind them, name=host:port; once for each.")
    ],
    interface: Annotated[str, typer.Option(help="The network interface that holds the address.")] = "eth0",
    router_id: Annotated[int, typer.Option(help="VRRP router id, unique in the network.", min=1, max=255)] = 51,
    into: Annotated[
        Path | None, typer.Option(help="Write the files into this folder.", show_default="print")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make HAProxy's and keepalived's files for two balancers that share an address.

    Both machines get the same `haproxy.cfg`; port, rate limit and certificate come from the settings under `[up]`.
    """
    from matinee.core.files import write_atomically  # noqa: PLC0415
    from matinee.core.settings import load_settings  # noqa: PLC0415
    from matinee.operation.layout import Pair  # noqa: PLC0415
    from matinee.operation.pair import files, parse_server, shared_balancer  # noqa: PLC0415

    settings, named = load_settings(), tuple(parse_server(server) for server in servers)
    balancer = shared_balancer(settings.up, named, body_bytes=settings.serving.max_body_bytes)
    made = files(Pair(balancers, virtual, interface, router_id), balancer)
    if into is None:
        _show(made, as_json=as_json)
        return
    for name, text in made.items():
        write_atomically(into / name, text.encode())
        if text.startswith("#!"):
            (into / name).chmod(0o755)
    if as_json:
        emit({"written": [str(into / name) for name in made]})
    else:
        people.print(f"Wrote {', '.join(made)} into {into}.", markup=False)


def _open(home: Path | None, replicas: int | None, port: int | None, world: int | None) -> Context:
    context = open_context("up", home)
    given = {name: value for name, value in (("replicas", replicas), ("port", port)) if value is not None}
    sections: dict[str, object] = {"up": context.settings.up.model_copy(update=given)}
    if world is not None:
        sections["simulation"] = context.settings.simulation.model_copy(update={"viewers": world})
    return Context(context.settings.model_copy(update=sections), context.home, context.clock)


def _show(files: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        emit(dict(files))
        return
    for name, text in files.items():
        people.out(f"# ---- {name}\n{text}")


def _refuse_options_before_the_verb(context: typer.Context) -> None:
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if given:
        raise typer.BadParameter(f"write --{given[0]} after {context.invoked_subcommand}")
