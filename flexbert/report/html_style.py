"""How ``report.html`` looks, and the few lines that draw its plots."""

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #24292f; background: #f6f7f8;
  margin: 0 auto; max-width: 1280px; padding: 1.5rem; }
h1 { font-size: 1.6rem; margin: 0; overflow-wrap: anywhere; }
h3 { font-size: .9rem; font-weight: 600; margin: .6rem .8rem 0; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
.facts { color: #57606a; margin: .2rem 0 1.2rem; }
.plots { display: grid; gap: 12px; grid-template-columns: repeat(3, minmax(0, 1fr)); }
.plots > div { background: white; border: 1px solid #dde0e4; border-radius: 6px; }
.plots > div:first-child { grid-column: 1 / -1; }
@media (max-width: 900px) { .plots { grid-template-columns: minmax(0, 1fr); } }
table { border-collapse: collapse; background: white; font-size: .88rem; }
th, td { border: 1px solid #dde0e4; padding: .25rem .6rem; text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }
th { background: #eef0f2; font-weight: 600; white-space: nowrap; }
.wide { overflow-x: auto; }
.example { background: white; border: 1px solid #dde0e4; border-radius: 6px;
  padding: .8rem 1rem; margin-bottom: 1rem; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; font-family: monospace; margin: 0 0 .6rem; }
.text b { background: #fdf0c8; border-radius: 3px; padding: 0 .15rem; }
.text sub { color: #8a6d1d; }
td.token, td.right, td.wrong { font-family: monospace; white-space: pre-wrap; }
td.right { background: #e3f3e6; }
td.wrong { background: #fbe9e5; }
td small { color: #57606a; white-space: nowrap; }
pre { background: white; border: 1px solid #dde0e4; border-radius: 6px; padding: 1rem;
  overflow: auto; max-height: 40rem; font-size: .85rem; }
.note { color: #57606a; font-size: .9rem; }
"""

# A zoom in one plot moves the others: what is looked at is a time of the run.
SCRIPT = """
(function () {
  "use strict";
  var figures = JSON.parse(document.getElementById("figures").textContent);
  var options = {responsive: true, displaylogo: false, modeBarButtons: [
    ["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]]};
  var plots = figures.map(function (figure, number) {
    var place = document.getElementById("plot-" + number);
    Plotly.newPlot(place, figure.data, figure.layout, options);
    return place;
  });
  var moving = false;
  plots.forEach(function (plot, number) {
    plot.on("plotly_relayout", function (change) {
      if (moving) { return; }
      var update = null;
      if ("xaxis.range[0]" in change) {
        update = {"xaxis.range": [change["xaxis.range[0]"], change["xaxis.range[1]"]]};
      } else if (change["xaxis.autorange"]) {
        update = {"xaxis.autorange": true};
      }
      if (update === null) { return; }
      moving = true;
      Promise.all(plots.map(function (other, index) {
        return index === number ? null : Plotly.relayout(other, update);
      })).then(function () { moving = false; }, function () { moving = false; });
    });
  });
})();
"""
