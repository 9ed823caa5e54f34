"""How audit.html looks: light or dark as the reader's system is, on a phone as on a wide screen."""

CSS = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1d2126; --faint: #59616b; --line: #dde1e6; --code: #f0f2f5;
  --link: #0b5cad; --mark: #ffe08a; --mark-ink: #3d2c00;
  --high: #b3261e; --high-back: #fdebe9; --medium: #8a4b00; --medium-back: #fff1d9;
  --low: #1a5a9e; --low-back: #e6f0fb; --none: #1f6b3a; --none-back: #e5f4ea;
  --unknown: #575e66; --unknown-back: #eceef1;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171a; --card: #1d2125; --ink: #e5e8eb; --faint: #a0a8b1; --line: #343a41; --code: #272c31;
    --link: #7cb8f5; --mark: #5c4708; --mark-ink: #ffe9b0;
    --high: #ff9c93; --high-back: #4a1d1a; --medium: #f5bd6a; --medium-back: #44300f;
    --low: #8fc1f7; --low-back: #17324e; --none: #86d3a0; --none-back: #173a25;
    --unknown: #b4bbc3; --unknown-back: #31363c;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink); overflow-wrap: anywhere;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
header, main, footer { max-width: 66rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2.25rem; }
footer { padding-top: 1rem; padding-bottom: 3rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.35rem; margin: 2.75rem 0 .75rem; }
h3 { font-size: 1.1rem; line-height: 1.35; margin: 0; }
h4 { font-size: .95rem; margin: 1.5rem 0 .5rem; }
p { margin: .5rem 0; }
a { color: var(--link); }
.aside, footer, .facts { color: var(--faint); font-size: .875rem; }
.facts { margin: 0; padding: 0; list-style: none; }
.counts { display: grid; grid-template-columns: repeat(5, minmax(0, 1fr)); gap: .75rem; margin: 1.5rem 0; padding: 0;
  list-style: none; }
.counts li { padding: .7rem .9rem; border-radius: .6rem; font-size: .85rem; line-height: 1.3; }
.counts b { display: block; font-size: 1.7rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.counts .zero { background: var(--card); color: var(--faint); box-shadow: inset 0 0 0 1px var(--line); }
.card, article { background: var(--card); border: 1px solid var(--line); border-radius: .75rem;
  padding: 1.1rem 1.25rem; }
article { margin: 0 0 1rem; border-left-width: 5px; }
article:target { outline: 3px solid var(--link); outline-offset: 2px; }
.list { margin: 0; padding: .35rem 1.25rem; list-style: none; }
.list li { display: grid; grid-template-columns: 5.75rem 14rem 1fr; gap: .25rem 1rem; padding: .55rem 0;
  border-top: 1px solid var(--line); align-items: baseline; }
.list li:first-child { border-top: 0; }
.list p { margin: 0; font-size: .93rem; }
.list + details { margin: .75rem 0 0; }
.list + details .list { margin-top: .5rem; }
.badge { display: inline-block; min-width: 5.4rem; padding: .05rem .6rem; border-radius: 1rem; font-size: .8rem;
  font-weight: 650; text-align: center; white-space: nowrap; }
.title { display: flex; flex-wrap: wrap; gap: .4rem .75rem; align-items: center; }
.title code { color: var(--faint); background: none; padding: 0; font-weight: 400; font-size: .82rem; }
.message { font-size: 1.02rem; margin: .6rem 0 .25rem; max-width: 52rem; }
.high { color: var(--high); background: var(--high-back); }
.medium { color: var(--medium); background: var(--medium-back); }
.low { color: var(--low); background: var(--low-back); }
.none { color: var(--none); background: var(--none-back); }
.unknown { color: var(--unknown); background: var(--unknown-back); }
.at-high { border-left-color: var(--high); } .at-medium { border-left-color: var(--medium); }
.at-low { border-left-color: var(--low); } .at-none { border-left-color: var(--none); }
.at-unknown { border-left-color: var(--unknown); }
.scroll { overflow-x: auto; margin: .5rem 0; }
.scroll:focus-visible, pre:focus-visible, summary:focus-visible, a:focus-visible {
  outline: 2px solid var(--link); outline-offset: 2px; }
table { border-collapse: collapse; font-size: .875rem; line-height: 1.4; font-variant-numeric: tabular-nums;
  overflow-wrap: normal; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
  max-width: 26rem; }
thead th { color: var(--faint); font-weight: 600; border-bottom-width: 2px; }
tbody th { font-weight: 600; min-width: 7.5rem; }
td.number, th.number { text-align: right; }
td.number, th.number, td.short { white-space: nowrap; }
table.groups tbody + tbody tr:first-child > * { border-top: 2px solid var(--faint); }
.examples tbody th, .examples td { white-space: nowrap; }
.examples td.words { white-space: normal; min-width: 18rem; }
.examples tr.note th { white-space: normal; color: var(--faint); font-weight: 400; font-style: italic; }
mark { background: var(--mark); color: var(--mark-ink); padding: 0 .2rem; border-radius: .2rem; }
code { font: .85em/1.5 ui-monospace, "SFMono-Regular", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  background: var(--code); padding: .1rem .3rem; border-radius: .25rem; }
pre { background: var(--code); border-radius: .5rem; padding: .6rem .8rem; margin: .35rem 0 .6rem; overflow-x: auto; }
pre code { background: none; padding: 0; }
.remedies { margin: .25rem 0; padding-left: 1.1rem; }
.clusters { list-style: none; margin: .5rem 0; padding: 0; display: flex; flex-wrap: wrap; gap: .75rem; }
.cluster { background: var(--page); border: 1px solid var(--line); border-radius: .5rem; padding: .6rem; }
.images { display: flex; flex-wrap: wrap; gap: .6rem; }
.note { color: var(--faint); font-size: .82rem; margin: .4rem 0 0; }
figure { margin: 0; }
.images figure { width: min-content; min-width: 7rem; }
figcaption { font-size: .78rem; line-height: 1.35; color: var(--faint); margin-top: .3rem; }
figcaption b { color: var(--ink); font-weight: 600; }
.example { display: block; image-rendering: pixelated; border: 1px solid var(--line); max-width: 100%; }
.broken { width: 112px; height: 112px; display: grid; place-items: center; text-align: center; font-size: .8rem;
  color: var(--faint); border: 1px dashed var(--faint); }
.texts { display: grid; grid-template-columns: minmax(0, 1fr); }
.texts .cluster { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: .75rem; }
.texts .note { grid-column: 1 / -1; margin: 0; font-style: italic; }
blockquote { margin: 0; padding: .5rem .75rem; background: var(--card); border-left: 3px solid var(--line);
  white-space: pre-wrap; font-size: .88rem; line-height: 1.45; }
.plot img { display: block; width: 100%; max-width: 40rem; height: auto; }
details { margin-top: .5rem; }
summary { cursor: pointer; color: var(--link); font-size: .9rem; padding: .2rem 0; }
@media (max-width: 48rem) {
  header, main, footer { padding-left: .9rem; padding-right: .9rem; }
  h1 { font-size: 1.5rem; }
  .counts { grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr)); gap: .5rem; }
  .list { padding: .35rem .9rem; }
  .list li { grid-template-columns: auto 1fr; }
  .list p { grid-column: 1 / -1; }
  article { padding: .9rem; border-left-width: 4px; }
}
@media print {
  body { background: none; }
  article, .cluster, .counts li { break-inside: avoid; }
}
"""
