"""The Markdown table between its markers, and the chart."""
from statistics import median

from . import rows as rows_module
from . import runner
from . import stats

FULL_MESSAGES = 10_000_000
BEGIN, END = "<!-- bench:begin (written by bench/compare) -->", "<!-- bench:end -->"


def number(value, unit=""):
    """Three significant digits, thousands in k and M."""
    if value is None:
        return "–"
    sign, size = ("-" if value < 0 else ""), abs(value)
    if size >= 999_500:
        text = "%.3g M" % (size / 1e6)
    elif size >= 9_995:
        text = "%.3g k" % (size / 1e3)
    elif size >= 100:
        text = "%.0f" % size
    else:
        text = "%.3g" % size
    return (sign + text + (" " + unit if unit else "")).strip()


def ratio_text(values):
    """Median and interval of the ratios of all pairs."""
    if not values:
        return "–"
    span = stats.interval(values)
    text = "%.2f" % median(values)
    return text + (" [%.2f, %.2f]" % span if span else "")


def target_text(kind, target):
    if target is None:
        return ""
    return ("≥ %g" if kind in ("cpu", "rate") else "≤ %g") % target


def verdict(met):
    return {True: "yes", False: "**no**", None: ""}[met]


def figure_values(figure, pairs, side):
    values = [stats.figure_value(figure, pair[side]) for pair in pairs]
    return [v for v in values if v is not None]


def figure_ratios(figure, pairs):
    values = [stats.ratio(figure.kind, stats.figure_value(figure, pair["ours"]),
                          stats.figure_value(figure, pair["peer"])) for pair in pairs]
    return [v for v in values if v is not None]


def line(title, label, peer, ours, ratios, target, met):
    return "| %s | %s | %s | %s | %s | %s | %s |" % (title, label, peer, ours, ratios, target, met)


def figure_line(title, figure, pairs):
    peer = figure_values(figure, pairs, "peer")
    ours = figure_values(figure, pairs, "ours")
    middle = {"peer": median(peer) if peer else None, "ours": median(ours) if ours else None}
    if figure.kind == rows_module.OURS:
        ratios, judged = "", middle["ours"]
    else:
        values = figure_ratios(figure, pairs)
        ratios, judged = ratio_text(values), median(values) if values else None
    target = figure.target
    shown = target_text(figure.kind, target)
    if figure is rows_module.FAULTS:
        shown = "0"
    return line(title, figure.label, number(middle["peer"], figure.unit),
                number(middle["ours"], figure.unit), ratios, shown,
                verdict(stats.meets(figure.kind, judged, target)))


def own_lines(row, results):
    """Our figure of this row over our figure of another one."""
    for label, other, path, target in row.own:
        here = [stats.dig(p["ours"], path) for p in results[row.name]["pairs"]]
        there = [stats.dig(p["ours"], path) for p in results.get(other, {}).get("pairs", [])]
        if not here or not there or not median(there):
            continue
        value = median(here) / median(there)
        yield line("", "ours: " + label, "", "", "%.2f" % value, "≤ %g" % target,
                   verdict(value <= target))


def row_notes(result):
    """What a reader must know before believing the row."""
    pairs = result["pairs"]
    notes = []
    for side, name in (("peer", "nats-server"), ("ours", "millrace")):
        bound = sum(bool(stats.dig(p[side], ("client", "client_bound"))) for p in pairs)
        if bound * 2 > len(pairs):
            notes.append("client-bound with " + name)
    repeats = sum(p["repeats"] for p in pairs)
    if repeats:
        notes.append("%d pairs repeated for steal time" % repeats)
    if result["error"]:
        notes.append("ended by a failure: " + result["error"].replace("|", "/"))
    return "; ".join(notes)


def row_lines(row, results, pairs_meant):
    result = results[row.name]
    title = "**%s**" % row.title
    notes = row_notes(result)
    if len(result["pairs"]) != pairs_meant:
        notes = "; ".join(filter(None, ["%d pairs" % len(result["pairs"]), notes]))
    if notes:
        title += " (%s)" % notes
    if not result["pairs"]:
        yield line(title, "", "", "", "", "", "**no**")
        return
    for figure in row.figures:
        yield figure_line(title, figure, result["pairs"])
        title = ""
    if result.get("bench", {}).get("pairs"):
        pairs = result["bench"]["pairs"]
        values = [p["ours"] / p["peer"] for p in pairs]
        yield line("", "rate seen by nats-bench", number(median(p["peer"] for p in pairs), "msg/s"),
                   number(median(p["ours"] for p in pairs), "msg/s"), ratio_text(values),
                   target_text("rate", row.bench_target),
                   verdict(stats.meets("rate", median(values), row.bench_target)))
    calls = result.get("syscalls")
    if calls:
        yield line("", "system calls", number(calls.get("peer"), "per 1000 msg"),
                   number(calls.get("ours"), "per 1000 msg"), "",
                   "≤ %g" % rows_module.SYSCALLS_TARGET,
                   verdict(stats.meets("ours", calls.get("ours"), rows_module.SYSCALLS_TARGET)))
    yield from own_lines(row, results)


def table(results, pairs_meant):
    lines = ["| workload | figure | nats-server | millrace | ratio [95 %] | target | met |",
             "|---|---|---|---|---|---|---|"]
    for row in rows_module.ROWS + rows_module.JETSTREAM_ROWS:
        if row.name in results:
            lines.extend(row_lines(row, results, pairs_meant))
    return "\n".join(lines)


def conditions(setting):
    """How quiet the machine was: a table from a busy one is worth less."""
    pairs = [p for result in setting["rows"].values() for p in result["pairs"]]
    if not pairs:
        return ""
    steal = max(runner.steal_share(p[side]) for p in pairs for side in ("ours", "peer"))
    loads = sorted(p["before"]["loadavg"] for p in pairs)
    text = "Steal time at most %.1f %% of a run, load average before a pair %.1f to %.1f" % (
        steal * 100, loads[0], loads[-1])
    stalled = [p["before"]["psi_avg10"] for p in pairs if "psi_avg10" in p["before"]]
    if stalled:
        text += ", CPU pressure (avg10) at most %.0f %%" % max(stalled)
    text += ", guest halt polling %s." % setting["facts"].get("halt_poll", "unknown")
    if setting["facts"].get("messages", FULL_MESSAGES) != FULL_MESSAGES:
        text += " Where a title says 10 M messages there were %s, the rest in proportion." % number(
            setting["facts"]["messages"])
    return text


def section(setting):
    """One measured setting: its facts, its noise, its table."""
    facts = setting["facts"]
    text = ["### %s" % setting["title"], "",
            "%s against %s. %s pairs of %s s, %s." % (
                facts["ours"], facts["peer"], facts["pairs"], facts["seconds"], facts["placement"]),
            "Machine: %s, %d cores, Linux %s. Client: `bench/load`, one thread. %s" % (
                facts["cpu"], facts["cores"], facts["kernel"], facts["date"]),
            conditions(setting), ""]
    noise = setting.get("noise")
    if noise and noise["pairs"]:
        row = rows_module.by_names(noise["row"])[0]
        parts = []
        for figure in row.figures:
            if figure.kind != rows_module.OURS:
                parts.append("%s %s" % (figure.label,
                                        ratio_text(figure_ratios(figure, noise["pairs"]))))
        text += ["Noise: nats-server against itself, %s: %s." % (row.title, ", ".join(parts)), ""]
    return "\n".join(text + [table(setting["rows"], facts["pairs"])])


def replace_between_markers(path, body):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    before, rest = text.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    with open(path, "w", encoding="utf-8") as file:
        file.write(before + BEGIN + "\n\n" + body + "\n\n" + END + after)
