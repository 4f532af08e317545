"""The chart: how much less CPU each workload costs, as bars with their intervals and targets.

Hand-written SVG in colours that read on a light and on a dark page, without a background.
"""
from statistics import median
from xml.sax.saxutils import escape

from . import report, rows, stats

WIDTH, LABEL, RIGHT, BAR, GAP, TOP = 760, 300, 70, 14, 10, 46
TEXT, BLUE, RED, LINE = "#808890", "#3b82c4", "#c4553b", "#80889055"


def bars(results):
    """(title, median, low, high, target) of the CPU figure of each row."""
    for row in rows.ROWS:
        pairs = results.get(row.name, {}).get("pairs")
        figure = next((f for f in row.figures if f.kind == rows.CPU), None)
        if not row.chart or not pairs or figure is None:
            continue
        values = report.figure_ratios(figure, pairs)
        if not values:
            continue
        middle = median(values)
        low, high = stats.interval(values) or (middle, middle)
        part = " (%s)" % figure.label.split(":")[0] if ":" in figure.label else ""
        yield row.title + part, middle, low, high, figure.target


def nice_step(largest):
    for step in (1, 2, 5, 10, 20, 50, 100):
        if largest / step <= 8:
            return step
    return 200


def draw(results):
    data = list(bars(results))
    largest = max([max(high, target or 0) for _, _, _, high, target in data] + [2])
    scale = (WIDTH - LABEL - RIGHT) / largest
    height = TOP + len(data) * (BAR + GAP) + 30
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" '
           'font-size="12" fill="%s" role="img">' % (WIDTH, height, TEXT),
           "<title>Server cost of nats-server over Millrace, by workload</title>",
           '<text x="0" y="16" font-size="14">Times less per operation than nats-server: '
           "server CPU</text>",
           '<text x="0" y="32" font-size="11">bar: median of pairs; whisker: 95 % interval; '
           "red tick: target; 1 = equal</text>"]
    step = nice_step(largest)
    for mark in range(0, int(largest) + 1, step):
        x = LABEL + mark * scale
        out.append('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s"/>' % (
            x, TOP - 4, x, height - 24, LINE))
        out.append('<text x="%.1f" y="%d" text-anchor="middle">%d</text>' % (x, height - 8, mark))
    for index, (title, middle, low, high, target) in enumerate(data):
        y = TOP + index * (BAR + GAP)
        center = y + BAR / 2
        out.append('<text x="%d" y="%.1f" text-anchor="end">%s</text>' % (
            LABEL - 8, center + 4, escape(title)))
        out.append('<rect x="%d" y="%d" width="%.1f" height="%d" rx="2" fill="%s"/>' % (
            LABEL, y, middle * scale, BAR, BLUE))
        out.append('<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="2"/>' % (
            LABEL + low * scale, center, LABEL + high * scale, center, TEXT))
        if target:
            x = LABEL + target * scale
            out.append('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s" stroke-width="3"/>' % (
                x, y - 3, x, y + BAR + 3, RED))
        out.append('<text x="%.1f" y="%.1f">%.1f×</text>' % (
            LABEL + max(high, target or 0) * scale + 8, center + 4, middle))
    return "\n".join(out + ["</svg>", ""])
