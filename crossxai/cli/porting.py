"""`crossxai port` and `crossxai certify`: a network in the other framework, and whether two networks are one function."""

from __future__ import annotations

import itertools
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from crossxai.cli.commands import clear_errors, escaped, quiet

if TYPE_CHECKING:
    from crossxai.conventions.certificate_result import Certificate

Data = Annotated[
    Path | None, typer.Option("--data", help="Pictures or arrays to measure on; images of noise if not given.")
]
Size = Annotated[
    int | None,
    typer.Option("--size", min=1, help="Bring pictures, or the images of noise, to so many pixels a side."),
]
Trust = Annotated[bool, typer.Option("--trust", help="Let a model's file run code of its own.")]
Samples = Annotated[int, typer.Option("--samples", "-n", min=2, help="At most so many samples.")]


def port(
    model: Annotated[str, typer.Argument(help="A network by name or file; see docs/models.md.")],
    to: Annotated[str, typer.Option("--to", help="keras or torch.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the network and its certificate.")],
    data: Data = None,
    size: Size = None,
    samples: Samples = 4,
    trust: Trust = False,
) -> None:
    """Bring a network to the other framework, layer by layer, with a measured certificate.

    Exit status 1: the certificate fails.
    """
    import crossxai as xai

    with clear_errors():
        quiet()
        wrapped = xai.wrap(model, size=size, trust=trust)
        ported = xai.port(wrapped, to, _example(wrapped, data, size, samples), samples=samples)  # type: ignore[arg-type]
        again = _again("port", model, to=to, data=data, size=size, samples=samples, trust=trust, out=out)
        ported.save(out, samples=_from(data), command=again)
        console = Console()
        _show(ported.certificate, console)
        files = ", ".join(sorted(path.name for path in out.iterdir()))
        console.print(f"Files: [bold]{escaped(out.resolve())}[/] ({escaped(files)})", soft_wrap=True, highlight=False)
    if not ported.certificate.holds:
        raise typer.Exit(1)


def certify(
    one: Annotated[str, typer.Argument(help="A network by name or file; see docs/models.md.")],
    other: Annotated[str, typer.Argument(help="The network that should be the same function.")],
    data: Data = None,
    size: Size = None,
    samples: Samples = 4,
    trust: Trust = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A folder, or a .json or .html file, for the certificate; it is both."),
    ] = None,
) -> None:
    """Measure whether two networks are one function and explain alike.

    Exit status 1: they are not.
    """
    import crossxai as xai
    from crossxai.experiment.ported import save_certificate

    with clear_errors():
        quiet()
        first, second = (xai.wrap(model, size=size, trust=trust) for model in (one, other))
        certificate = xai.certify(first, second, _example(first, data, size, samples), samples=samples)
        console = Console()
        _show(certificate, console)
        if out is not None:
            path = out if out.suffix in (".json", ".html") else out / "certificate.json"
            again = _again("certify", one, other, data=data, size=size, samples=samples, trust=trust, out=out)
            page = save_certificate(path, certificate, first, second, samples=_from(data), command=again)
            console.print(f"Page: [bold]{escaped(page.resolve())}[/]", soft_wrap=True, highlight=False)
    if not certificate.holds:
        raise typer.Exit(1)


def _example(model: Any, data: Path | None, size: int | None, samples: int) -> Any:
    """What to measure on: the files, or noise."""
    from crossxai.assumptions.probes import noise

    return noise(model, size, samples) if data is None else str(data)


def _from(data: Path | None) -> str:
    return "images of noise, drawn by seed 0" if data is None else f"from {data}"


def _again(*words: str, **options: Any) -> str:
    """The command line that does the same."""
    given = [[f"--{name}", *([] if value is True else [str(value)])] for name, value in options.items() if value]
    return shlex.join(["crossxai", *words, *itertools.chain(*given)])


def _show(certificate: Certificate, console: Console) -> None:
    from rich.table import Table

    table = Table(title=f"{certificate.one} and {certificate.other}", title_justify="left")
    for heading in ("what", "on", "in", "differs by", "at most", ""):
        table.add_column(heading)
    for line in certificate.lines:
        value = "not measured" if line.reason else f"{line.value:.1e}"
        verdict = "" if line.reason else "holds" if line.holds else "[bold red]differs[/]"
        table.add_row(line.kind, escaped(line.name), line.dtype, value, f"{line.limit:.1e}", verdict)
    console.print(table)
    for line in certificate.lines:
        if line.reason:
            console.print(escaped(f"{line.name}: {line.reason}"), highlight=False)
    if certificate.holds:
        console.print("The certificate holds: both are one function, as far as measured.", style="green")
        return
    why = "they compute the same and train otherwise" if certificate.trains_otherwise else "they are not one function"
    console.print(f"The certificate fails: {why}.", style="bold red")
    for some in certificate.causes[:1]:
        console.print(escaped(f"They differ by {', '.join(str(switch) for switch in some)}."), highlight=False)
    if certificate.first is not None:
        first = certificate.first
        console.print(
            escaped(f"The first layer that differs is {first.one!r}, in the other one {first.other!r}."),
            highlight=False,
        )
