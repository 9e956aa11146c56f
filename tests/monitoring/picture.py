"""The dashboard as an SVG picture, of what a Prometheus has of a run: each panel where Grafana puts it. Grafana itself is
not asked, so what it shows can differ in looks, and does not in numbers."""

import html
import math
import re

COLUMN, LINE, GAP = 48, 23, 6
TOP = 58  # with the legend of what happens
STEP = 2  # seconds between two points
MOST = 8  # series of a panel
COLOURS = ["#2a7f4f", "#d0694f", "#3b6ea8", "#c9a227", "#7d5ba6", "#4fa3a5", "#a0522d", "#777777"]


def scale(value, unit):
    """In what people read it: (size, name)."""
    if unit == "percentunit":
        return 0.01, " %"
    if unit == "bytes":
        return 2**20, " MiB"
    if unit == "s":
        sizes = (86400, " d"), (3600, " h"), (60, " min"), (1, " s"), (1e-3, " ms")
        return next((one for one in sizes if abs(value) >= one[0]), (1e-6, " µs"))
    return 1, "/s" if unit in ("reqps", "ops") else ""


def number(value, unit):
    """As people read it."""
    size, name = scale(value, unit)
    return f"{value / size:.3g}{name}" if value else "0"


def text(x, y, words, size=10, more=""):
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}"{more}>{html.escape(words)}</text>'


def round_up(most, unit):
    """A number that is easily read and not below."""
    size = scale(most, unit)[0]
    if most <= 0:
        return float(size)
    power = 10 ** math.floor(math.log10(most / size))
    return next(step * power * size for step in (1, 2, 2.5, 5, 10) if step * power * size >= most * 0.999)


def legend(target, labels):
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), target["legendFormat"])


def numbers(values):
    return [(float(at), float(value)) for at, value in values if value != "NaN"]


class Picture:
    def __init__(self, prometheus, filled, events):
        self.prometheus, self.filled, self.events, self.parts = prometheus, filled, events, []
        self.began, self.ended = events[0][0], prometheus.ended

    def series(self, panel):
        """(name, points) of each, those with the greatest values only."""
        found = []
        for target in panel["targets"]:
            for one in self.prometheus.range(self.filled(target["expr"]), step=STEP):
                points = [(at, value) for at, value in numbers(one["values"]) if at >= self.began]
                if points:
                    found.append((legend(target, one["metric"]), points))
        greatest = sorted(found, key=lambda one: -max(value for _, value in one[1]))[:MOST]
        return [one for one in found if one in greatest]

    def panel(self, panel, x, y, width, height):
        unit = panel["fieldConfig"]["defaults"]["unit"]
        self.parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="#fff" stroke="#ddd"/>')
        self.parts.append(text(x + 6, y + 14, panel["title"], 11, ' font-weight="bold"'))
        series = self.series(panel)
        if not series:
            self.parts.append(text(x + width / 2, y + height / 2, "nothing of it in this run", 10, ' fill="#999" text-anchor="middle"'))
        elif panel["type"] == "stat":
            name, points = series[0]
            told = name if panel["options"].get("textMode") == "name" else number(points[-1][1], unit)
            self.parts.append(text(x + width / 2, y + height / 2 + 16, told, 26, ' text-anchor="middle"'))
        else:
            self.plot(series, unit, x, y, width, height)

    def plot(self, series, unit, x, y, width, height):
        rows = self.legend(series, x, y + height, width)
        left, right, top, bottom = x + 52, x + width - 8, y + 24, y + height - 13 * rows - 8
        most = round_up(max(value for _, points in series for _, value in points), unit)
        across = lambda at: left + (right - left) * (at - self.began) / (self.ended - self.began)
        up = lambda value: bottom - (bottom - top) * min(max(value, 0) / most, 1)
        for share in (0, 0.5, 1):
            self.parts.append(f'<path d="M{left} {up(share * most):.0f}H{right}" stroke="#eee"/>')
            self.parts.append(text(left - 4, up(share * most) + 3, number(share * most, unit), 9, ' fill="#555" text-anchor="end"'))
        for at, _ in self.events[1:]:
            self.parts.append(f'<path d="M{across(at):.0f} {top}V{bottom}" stroke="#bbb" stroke-dasharray="2 2"/>')
        for index, (_, points) in enumerate(series):
            path, before = "", None
            for at, value in points:
                joined = before is not None and at - before <= STEP * 1.5
                path += f"{'L' if joined else 'M'}{across(at):.0f} {up(value):.0f}"
                before = at
            self.parts.append(f'<path d="{path}" fill="none" stroke="{COLOURS[index]}" stroke-width="1.5" stroke-linecap="round"/>')

    def legend(self, series, x, bottom, width):
        """Below the plot; returns how many rows it takes."""
        rows, at = [[]], 0
        for index, (name, _) in enumerate(series):
            name = name.replace("/superserve.secrets.v1.", "") or "all"
            takes = 18 + 5 * len(name)
            if rows[-1] and at + takes > width - 12:
                rows.append([])
                at = 0
            rows[-1].append((at, index, name))
            at += takes
        for row, names in enumerate(rows):
            y = bottom - 13 * (len(rows) - row) + 6
            for at, index, name in names:
                self.parts.append(f'<path d="M{x + 8 + at} {y - 3}h9" stroke="{COLOURS[index]}" stroke-width="3"/>')
                self.parts.append(text(x + 20 + at, y, name, 9))
        return len(rows)

    def draw(self, board):
        for panel in board["panels"]:
            place = panel["gridPos"]
            x, y = GAP + place["x"] * COLUMN, TOP + place["y"] * LINE
            width, height = place["w"] * COLUMN - GAP, place["h"] * LINE - GAP
            if panel["type"] == "row":
                self.parts.append(text(x, y + 14, panel["title"], 14, ' font-weight="bold"'))
            else:
                self.panel(panel, x, y, width, height)
        height = TOP + LINE * max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
        width = GAP + 24 * COLUMN
        told = "; ".join(f"{at - self.began:.0f} s: {what}" for at, what in self.events)
        head = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
            '<rect width="100%" height="100%" fill="#f7f7f7"/>',
            text(GAP, 22, f"{board['title']}: {self.ended - self.began:.0f} s of a real run", 16, ' font-weight="bold"'),
            text(GAP, 42, told, 11, ' fill="#555"')]
        return "\n".join([*head, *self.parts, "</svg>"]) + "\n"


def draw(prometheus, board, filled, events):
    return Picture(prometheus, filled, events).draw(board)
