"""`fishersft reproduce`: the paper's experiments, one command each."""

from __future__ import annotations

from importlib import resources
from typing import Annotated

import typer
from rich.markup import escape

from fishersft import terminal
from fishersft.config.files import Settings, load_settings
from fishersft.plug_ins import load_plug_in

reproduce_app = typer.Typer(
    help="Reproduce the paper's experiments: each prints its tables, and leaves a page in the output folder.",
    no_args_is_help=True,
)
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SETTING=VALUE", help="Such as repeats=5 or output=results; repeatable."),
]


@reproduce_app.command()
def synthetic(overrides: Overrides = None) -> None:
    """Tokens from a softmax model: errors by budget, dimensions and classes; some four minutes."""
    _simulate("synthetic", overrides)


@reproduce_app.command()
def convergence(overrides: Overrides = None) -> None:
    """How fast the error falls with the budget, as the slope of their logarithms."""
    _simulate("convergence", overrides)


@reproduce_app.command()
def word_embeddings(overrides: Overrides = None) -> None:
    """The same with pretrained word vectors: of SmolLM2, or --set vectors=glove.txt."""
    _simulate("word-embeddings", overrides)


@reproduce_app.command()
def own_tokens(
    redrawn: Annotated[bool, typer.Option("--redrawn", help="The control: tokens drawn anew after the words.")] = False,
    overrides: Overrides = None,
) -> None:
    """Features of a sentence's own tokens, as in a language model: who chooses by them chooses by the outcomes."""
    _simulate("own-tokens-redrawn" if redrawn else "own-tokens", overrides)


@reproduce_app.command()
def speed(overrides: Overrides = None) -> None:
    """Algorithms 1 and 2 as published against each other and the engine, on a language model's embeddings."""
    from fishersft.config.speed import SpeedConfig
    from fishersft.reporting.speed import speed_sheet
    from fishersft.reporting.tables import sheet_table
    from fishersft.steps.publishing import output_folder

    settings = _preset("speed", overrides, SpeedConfig)
    found = load_plug_in("fishersft.flows", "speed")(settings)
    terminal.console.print(sheet_table(speed_sheet(found)))
    terminal.print_path("table", f"{output_folder(settings, 'speed')}/speed.md")


def _preset(name: str, overrides: list[str] | None, kind: type[Settings]) -> Settings:
    """The settings of an experiment, with changes from the command line."""
    with resources.as_file(resources.files("fishersft.experiments").joinpath("presets", f"{name}.yaml")) as path:
        return load_settings(path, overrides or (), kind)


def _simulate(preset: str, overrides: list[str] | None) -> None:
    from fishersft.config.simulation import SimulationConfig
    from fishersft.reporting.simulation_page import sheets
    from fishersft.reporting.tables import sheet_table
    from fishersft.steps.outcome import open_store
    from fishersft.steps.publishing import output_folder
    from fishersft.steps.simulating import load_simulation

    settings = _preset(preset, overrides, SimulationConfig)
    result = load_plug_in("fishersft.flows", "simulate")(settings)
    simulation = load_simulation(open_store(settings.store), result.report)
    for sheet in sheets(simulation):
        terminal.console.print(sheet_table(sheet))
    terminal.console.print(f"[bold]{escape(simulation.headline)}[/]", highlight=False)
    terminal.print_made(result)
    terminal.print_path("page", f"{output_folder(settings, settings.name)}/index.html")
