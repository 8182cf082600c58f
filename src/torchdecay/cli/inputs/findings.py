"""The options of commands that find things: which codes, which form, what is known already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchdecay.cli.inputs.options import typed
from torchdecay.cli.types import PATH

if TYPE_CHECKING:
    from torchdecay.findings.result import Findings
    from torchdecay.findings.rule import Rule, Severity
    from torchdecay.findings.settings import Shape

FORMATS = ("text", "json", "github", "sarif")


def findings_options(command: Any) -> Any:
    """The options."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_CODES: dict[str, Any] = {
    "multiple": True,
    "metavar": "CODE",
    "callback": lambda ctx, param, given: tuple(one.strip() for text in given for one in text.split(",")),
}
_SELECT = "Only these codes, or prefixes such as WD3; repeat it, or write commas between."
_SEVERITY = "error, warning or info for a code; repeat it."
_OPTIONS = (
    click.option("--select", help=_SELECT, **_CODES),
    click.option("--ignore", help="Not these; repeat it, or write commas between.", **_CODES),
    click.option("--severity", multiple=True, metavar="CODE=WORD", help=_SEVERITY),
    click.option("--format", "style", type=click.Choice(FORMATS), default="text", show_default=True),
    click.option("--baseline", type=PATH, metavar="FILE", help="Tell only what is not in this file."),
    click.option("--update-baseline", is_flag=True, help="Write all that is found into the baseline, and exit 0."),
    click.option("--list-rules", is_flag=True, help="List all codes."),
    click.option("--explain", metavar="CODE", help="Explain a code, with an example."),
)


@dataclass(frozen=True, kw_only=True)
class Said:
    """What options and pyproject.toml say, the options first."""

    select: tuple[str, ...]
    ignore: tuple[str, ...]
    severity: Mapping[str, Severity]
    style: str
    baseline: Path | None
    update: bool
    more: Mapping[str, Any]


def known_rules(given: Mapping[str, Any], rules: Mapping[str, Rule]) -> bool:
    """Print the command's rules, or one of any catalog, where that is asked for."""
    from torchdecay.findings.explaining import explain, rule_list

    if given["explain"]:
        click.echo(explain(given["explain"], _every_rule()))
    elif given["list_rules"]:
        click.echo(rule_list(rules.values()))
    return bool(given["explain"] or given["list_rules"])


def _every_rule() -> dict[str, Rule]:
    """The rules of audit and lint, and the alarms: whoever meets a code may ask any command for it."""
    from torchdecay.integrations.lint.result import RULES
    from torchdecay.observe.audit.catalog import CATALOG
    from torchdecay.observe.monitor.catalog import ALARMS

    return {**CATALOG, **RULES, **ALARMS}


def settings_of(section: str, given: Mapping[str, Any], more: Mapping[str, Shape]) -> Said:
    """What is asked for: each option that was typed, else the table of pyproject.toml, which has `more` keys."""
    from torchdecay.findings.settings import AUDIT, LINT, read_settings, texts

    style, as_json = given["style"], given["as_json"]
    if as_json and style != "json" and typed(click.get_current_context(), "style"):
        raise click.BadParameter(f"{style} is another form than --json; leave one of them out.", param_hint="--format")
    known: dict[str, Shape] = (LINT if section == "lint" else AUDIT) | dict(more)
    folder, table = read_settings(section, known)

    def many(key: str) -> tuple[str, ...]:
        said = given.get(key.replace("-", "_"))
        return tuple(said) if said else texts(table.get(key, []), f"[tool.torchdecay.{section}] {key}")

    severity = dict(table.get("severity", {}))
    for pair in given["severity"]:
        code, sign, word = pair.partition("=")
        if not sign:
            raise click.BadParameter(f"{pair!r} is not of the form WD501=error.", param_hint="--severity")
        severity[code] = word
    baseline = given["baseline"] or (folder / table["baseline"] if "baseline" in table else None)
    if given["update_baseline"] and baseline is None:
        raise click.BadParameter("say where: --baseline FILE.", param_hint="--update-baseline")
    by_name = isinstance(table.get("ignore"), dict) and not given["ignore"]
    found = {
        key: many(key) if shape is list else table.get(key, {} if shape is dict else None)
        for key, shape in more.items()
    }
    return Said(
        select=many("select"),
        ignore=() if by_name else many("ignore"),
        severity=severity,
        style="json" if as_json else style,
        baseline=baseline,
        update=given["update_baseline"],
        more=found | {"patterns": table["ignore"] if by_name else {}},
    )


def print_findings(ctx: click.Context, found: Findings, said: Said) -> None:
    """Print what is not known yet, in the form asked for, and exit 1 where some of it is an error or a warning."""
    if said.baseline is not None:
        from torchdecay.findings.baseline import Baseline
        from torchdecay.text import counted

        if said.update:
            Baseline.of(found.findings).write(said.baseline)
            click.echo(f"{said.baseline} knows {counted(len(found), 'finding')}.", err=True)
            ctx.exit(0)
        found = found.without(Baseline.read(said.baseline))
    forms = {"json": found.to_json, "github": found.to_github, "sarif": found.to_sarif, "text": found.__str__}
    click.echo(forms[said.style]())
    ctx.exit(0 if found.ok else 1)
