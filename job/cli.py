"""The commands. The one place that turns errors into exit codes; nothing heavy is imported before it is needed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from job import __version__, masking
from job.errors import AccessError, JobError
from job.planning import commands as planning
from job.render.commands import render_app

app = typer.Typer(
    name="finetune",
    help="A folder of labelled images in a bucket in, a proven SavedModel in a bucket out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="\b\nExamples:\n  finetune train --data ./photos --output ./runs/1\n  finetune demo",
)

ConfigFile = Annotated[
    Path | None,
    # Not checked by Typer, whose exit code for a file without permission is 2: it is 77 here.
    typer.Argument(metavar="CONFIG.yaml", readable=False, help="Settings, see `finetune config`.", show_default=False),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="a.b=c", help="Change one setting; may be repeated.")
]
Data = Annotated[
    str | None, typer.Option(metavar="URI", help="Labelled images: a path, gs://, s3:// or az://.", show_default=False)
]
Output = Annotated[str | None, typer.Option(metavar="URI", help="Folder of the run, likewise.", show_default=False)]


def _examples(*lines: str) -> str:
    # \b keeps Click from joining the lines.
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


@app.command(
    epilog=_examples(
        "finetune train --data ./photos --output ./runs/1",
        "finetune train --data gs://bucket/photos --output gs://bucket/runs/1 --set train.preset=best",
        "finetune train config.yaml --set model.backbone=resnet50 --set data.image_px=160",
    )
)
def train(
    config: ConfigFile = None,
    data: Data = None,
    output: Output = None,
    overrides: Overrides = None,
    grace: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="From SIGTERM to the kill.", show_default="25; 115 on SageMaker"),
    ] = None,
) -> None:
    """Pull, train, evaluate, export, prove, push. The same command again resumes, or shows the report."""
    from job.cluster import indexed
    from job.console import console
    from job.interruption import Stop
    from job.quiet import import_tensorflow

    platform = _platform()
    # Before TensorFlow is imported: as PID 1 an unhandled SIGTERM would be ignored.
    stop = Stop(grace_s=platform.grace_s if grace is None else grace, leave=_leave)
    stop.install()
    settings = _config(config, data, output, [*platform.overrides, *(overrides or ())])
    indexed.export(os.environ)
    import_tensorflow()
    from job.evaluation import pages
    from job.run import run

    out = console()
    report = run(settings, platform, out, stop)
    stop.finish()
    out.info(pages.summary(report))


@app.command(epilog=_examples("finetune check config.yaml", "finetune check config.yaml --no-data"))
def check(
    config: ConfigFile = None,
    data: Data = None,
    output: Output = None,
    overrides: Overrides = None,
    no_data: Annotated[bool, typer.Option("--no-data", help="Check the settings alone.")] = False,
) -> None:
    """Check the settings, reading the data, writing to the output, and every image; train nothing."""
    from job.checking import check as run_check
    from job.console import console
    from job.interruption import Stop

    platform = _platform()
    settings = _config(config, data, output, [*platform.overrides, *(overrides or ())])
    if not no_data:
        from job.quiet import import_tensorflow

        import_tensorflow()
    stop = Stop()
    stop.install()
    run_check(settings, platform, console(), stop, with_data=not no_data)


@app.command(
    epilog=_examples(
        "finetune predict ./runs/1/export/1 photo.jpg",
        "finetune predict gs://bucket/runs/1/export/1 gs://bucket/new --output predictions.csv --top 5",
    )
)
def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL_URI", help="The exported model, or its run's folder.")],
    images: Annotated[list[str], typer.Argument(metavar="IMAGE_OR_FOLDER_URI...", help="What to classify.")],
    output: Annotated[
        str | None, typer.Option(metavar="FILE", help="predictions.csv or predictions.jsonl.", show_default=False)
    ] = None,
    top: Annotated[int, typer.Option(min=1, metavar="K", help="Classes an image.")] = 3,
) -> None:
    """Classify images with an exported model; nothing but the model is needed."""
    from job.quiet import import_tensorflow

    import_tensorflow()
    from job.serving import predict as run_predict

    run_predict(model, images, output=output, top=top)


@app.command(epilog=_examples("finetune evaluate ./runs/1/export/1 ./photos/test"))
def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL_URI", help="The exported model, or its run's folder.")],
    data: Annotated[str, typer.Argument(metavar="DATA_URI", help="Labelled images, in any layout.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
) -> None:
    """Score an exported model on labelled images."""
    from job.quiet import import_tensorflow

    import_tensorflow()
    from job.serving import evaluate as run_evaluate

    run_evaluate(model, data, as_json=as_json)


@app.command(
    "config",
    epilog=_examples(
        "finetune config > config.yaml", "finetune config --schema > schema.json", "finetune config --backbones"
    ),
)
def show_config(
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema, for editors.")] = False,
    backbones: Annotated[bool, typer.Option("--backbones", help="List the backbones.")] = False,
) -> None:
    """Print every setting with its default and meaning, as YAML."""
    from job import config as configs

    if schema:
        print(json.dumps(configs.schema(), indent=2))
    elif backbones:
        from job.model.backbones import BACKBONES

        print(f"{'name':<24}{'px':>5}{'M params':>10}  {'preprocessing':<14}{'norm'}")
        for row in BACKBONES.values():
            million = f"{row.million_parameters:.1f}"
            print(f"{row.name:<24}{row.native_px:>5}{million:>10}  {row.preprocessing.value:<14}{row.norm.value}")
    else:
        print(configs.annotated_yaml(), end="")


@app.command(epilog=_examples("finetune demo", "finetune demo --folder ./demo"))
def demo(
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the results here.", show_default="./runs/demo")
    ] = None,
) -> None:
    """Run the whole job on this machine, against an object store of its own, on generated images."""
    from job.interruption import Stop
    from job.quiet import import_tensorflow

    stop = Stop()
    stop.install()
    import_tensorflow()
    from job.demo.run import run

    run(folder, stop)


@app.command(epilog=_examples("finetune platform", "finetune platform --json"))
def platform(
    as_json: Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")] = False,
) -> None:
    """Say which platform this is, what shows it, and what a run would take from it."""
    from job import platform_report

    found = _platform()
    print((platform_report.as_json if as_json else platform_report.as_text)(found, os.environ))


@app.command(epilog=_examples("finetune tensorboard ./runs/1", "finetune tensorboard gs://bucket/runs --port 6007"))
def tensorboard(
    run: Annotated[str, typer.Argument(metavar="RUN_URI", help="A run's folder, or a folder of runs.")],
    port: Annotated[int | None, typer.Option(min=1, max=65535, show_default="first free from 6006")] = None,
    host: Annotated[str, typer.Option(help="0.0.0.0 lets other machines in; there is no password.")] = "localhost",
    every: Annotated[float, typer.Option(min=1.0, metavar="SECONDS", help="Between looks for what is new.")] = 10.0,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the first run in an empty bucket.")] = False,
) -> None:
    """Show the curves of runs, on disk or in a bucket, while they grow; Ctrl-C ends it."""
    from job.console import console
    from job.watching import watch

    watch(run, console(), host=host, port=port, every_s=every, waits=wait)


app.registered_commands += planning.app.registered_commands
app.add_typer(render_app, name="render")


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def _platform() -> Any:
    """Returns the platform; where it names the machines in words of its own, TensorFlow's TF_CONFIG says so too."""
    from job.platforms import recognise

    platform = recognise(os.environ)
    if platform.tf_config is not None:
        os.environ["TF_CONFIG"] = platform.tf_config
    return platform


def _config(path: Path | None, data: str | None, output: str | None, overrides: list[str] | None) -> Any:
    from job import config as configs

    given = {"data.uri": data, "output": output}
    return configs.load(path, overrides or (), values={key: uri for key, uri in given.items() if uri is not None})


def main() -> None:
    """The console script: runs a command and exits with its code."""
    masking.guard()
    try:
        app()
    except JobError as error:
        _fail(error)
    except OSError as error:
        # Caches are written by NumPy and Pillow, whose errors know nothing of the job's.
        from job.storage import disk

        where = Path(error.filename or ".")
        failure = disk.translate(error, str(where), where)
        # A full disk or a missing right is the user's to change; anything else is a fault of ours: show where.
        if not disk.is_no_space(error) and not isinstance(failure, AccessError):
            _say_why(f"{type(error).__name__}: {error}")
            raise
        _fail(failure)
    except Exception as error:
        _say_why(f"{type(error).__name__}: {error}")
        raise


def _fail(error: JobError) -> None:
    """Says on stderr, and where the platform shows it, why the job ends, and exits."""
    from job.console import console

    console(sys.stderr).error(str(error), error=type(error).__name__, exit_code=error.exit_code)
    _say_why(str(error))
    sys.exit(error.exit_code)


def _leave(exit_code: int) -> None:
    """Ends the process just before the grace period does, whatever it is doing."""
    _say_why("Stopped by a signal; the grace period ended in the middle of a piece of work, which is done again.")
    os._exit(exit_code)


def _say_why(reason: str) -> None:
    from job.platforms import say_why

    say_why(reason)
