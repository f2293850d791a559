"""The look of report.html: one column, light or dark as the reader's system, fit to print."""

STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1c2333; --muted: #6b7488; --line: #d9dee8; --soft: #eef1f7; --card: #ffffff; --page: #f5f7fb;
  --blue: #2f6fed; --good: #12805a; --bad: #c23a32; --flat: #6b7488;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e8ebf3; --muted: #98a2b8; --line: #333b4d; --soft: #252c3c; --card: #1a2030; --page: #11151f;
    --blue: #6c9bff; --good: #3fc58e; --bad: #ff7a70; --flat: #98a2b8;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink); line-height: 1.55; font-size: 15px;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif;
}
main { max-width: 1060px; margin: 0 auto; padding: 40px 20px 80px; }
header .eyebrow { color: var(--muted); font-size: 13px; letter-spacing: .04em; margin: 0; }
h1 { font-size: 30px; line-height: 1.2; margin: 4px 0 20px; letter-spacing: -.015em;
  overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 0 0 4px; letter-spacing: -.01em; }
h3 { font-size: 15px; margin: 22px 0 4px; }
p { margin: 6px 0 12px; max-width: 74ch; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 24px 28px;
  margin: 18px 0; }
nav { display: flex; flex-wrap: wrap; gap: 6px 18px; font-size: 13.5px; margin: 22px 2px; }
a { color: var(--blue); text-decoration: none; }
a:hover { text-decoration: underline; }
.lead { color: var(--muted); }
.absent { color: var(--muted); font-style: italic; }
.verdict { display: grid; grid-template-columns: minmax(0, 1fr) 300px; gap: 12px 40px; align-items: center;
  border-left: 6px solid var(--tone); }
.verdict .chip { display: inline-block; background: var(--tone); color: var(--card); font-weight: 650;
  font-size: 13px;
  padding: 3px 12px; border-radius: 99px; }
.verdict h2 { font-size: 23px; line-height: 1.3; margin: 12px 0 8px; }
.improved { --tone: var(--good); } .unchanged { --tone: var(--flat); } .worse { --tone: var(--bad); }
.big { font-size: 46px; font-weight: 700; letter-spacing: -.03em; line-height: 1.05; color: var(--tone);
  font-variant-numeric: tabular-nums; }
.small { font-size: 13px; color: var(--muted); }
.interval { width: 100%; height: auto; display: block; margin-top: 10px; }
.interval text { fill: var(--muted); font-size: 11px; }
.note { border-left: 3px solid var(--line); padding-left: 14px; }
.scroll { overflow-x: auto; margin: 10px 0; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th { color: var(--muted); font-weight: 550; font-size: 12.5px; border-bottom: 1px solid var(--line); }
td, th { padding: 7px 16px 7px 0; text-align: left; vertical-align: baseline; }
td { border-bottom: 1px solid var(--soft); }
tbody tr:last-child td { border-bottom: 0; }
.number { text-align: right; white-space: nowrap; }
td:last-child, th:last-child { padding-right: 2px; }
td.words { overflow-wrap: anywhere; min-width: 5em; }
.best { font-weight: 700; }
.up { color: var(--good); } .down { color: var(--bad); }
figure { margin: 16px 0 8px; }
figure svg, figure img { width: 100%; height: auto; display: block; }
figure.cell svg { max-width: 860px; }
figcaption { color: var(--muted); font-size: 13px; margin-top: 6px; }
.picture img { border-radius: 8px; }
.key { display: inline-flex; align-items: center; gap: 6px; margin-right: 18px; font-size: 13px;
  color: var(--muted); }
.key i { width: 20px; height: 4px; border-radius: 2px; display: inline-block; }
details { border-top: 1px solid var(--soft); padding: 8px 0; }
summary { cursor: pointer; color: var(--blue); font-size: 14px; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 5px 22px; margin: 10px 0;
  font-size: 14px; }
dt { color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; }
pre, code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: 13px; }
pre { background: var(--soft); border-radius: 8px; padding: 12px 16px; overflow-x: auto; }
@media (max-width: 720px) {
  .verdict { grid-template-columns: 1fr; }
  section { padding: 18px 16px; }
}
@media print {
  :root { --page: #fff; --card: #fff; --ink: #111; --muted: #555; --line: #ccc; --soft: #f2f2f2;
  color-scheme: light; }
  body { font-size: 11pt; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  section { border: 0; padding: 0; margin: 0 0 18px; }
  section.verdict { padding-left: 16px; }
  figure, tr, .verdict { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
}
"""
