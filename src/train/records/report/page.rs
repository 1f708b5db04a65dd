//! A page that stands alone: no script, no font, no other file. It follows the reader's light or dark setting, and the
//! width of the screen.

use std::fmt::Write;

use crate::plot::escaped;
use crate::plot::page;

const STYLE: &str = "\
:root{color-scheme:light dark;--ground:#fff;--text:#1f2328;--quiet:#57606a;--line:#d8dee4;--soft:#f6f8fa;\
--blue:0 99 178;--good:#1a7f37;--bad:#b3004b}
@media (prefers-color-scheme:dark){:root{--ground:#0d1117;--text:#e6edf3;--quiet:#9aa4af;--line:#30363d;\
--soft:#161b22;--blue:76 154 226;--good:#56d364;--bad:#ff7eb6}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1240px;padding:24px 16px 48px;background:var(--ground);color:var(--text);\
font:15px/1.5 system-ui,sans-serif}
h1{font-size:24px;line-height:1.25;margin:0 0 4px}
h2{font-size:18px;margin:36px 0 12px}
h3{font-size:15px;margin:16px 0 8px}
p{margin:0 0 12px;max-width:72ch}
.quiet{color:var(--quiet)}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(130px,1fr));gap:8px;margin:20px 0 0;padding:0}
.tiles div{background:var(--soft);border:1px solid var(--line);border-radius:6px;padding:8px 12px}
.tiles dt{color:var(--quiet);font-size:13px;overflow-wrap:anywhere}
.tiles dd{margin:0;font-size:19px;font-weight:600;font-variant-numeric:tabular-nums}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(340px,100%),1fr));gap:12px}
.charts figure,.tile{margin:0;border:1px solid var(--line);border-radius:6px;overflow:hidden}
.charts svg{display:block;width:100%;height:auto;max-width:560px;margin:0 auto}
.halves{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(340px,100%),1fr));gap:0 32px;align-items:start}
.halves>*{min-width:0}
.wide{overflow-x:auto;max-width:100%}
table{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums}
th,td{padding:4px 10px;border-bottom:1px solid var(--line);text-align:right;vertical-align:top;white-space:nowrap}
th{font-weight:600;color:var(--quiet)}
th:first-child,td:first-child{text-align:left;padding-left:0}
td.text{text-align:left;white-space:normal;overflow-wrap:anywhere}
td.name{text-align:left;white-space:normal;min-width:14ch;overflow-wrap:anywhere}
tr.differs td{background:var(--soft)}
.matrix td,.matrix th{padding:3px 4px;min-width:26px;text-align:center;border:1px solid var(--ground);font-size:13px}
.matrix tbody th{text-align:right;padding-right:8px}
.matrix td{background:rgb(var(--blue)/calc(.06 + .94*var(--share,0)))}
.matrix td.strong{color:#fff}
.matrix td.none{color:var(--quiet)}
@media (prefers-color-scheme:dark){.matrix td.strong{color:#0d1117}}
.bar{display:inline-block;height:9px;min-width:1px;background:rgb(var(--blue));border-radius:2px;margin-right:6px}
.samples{display:grid;grid-template-columns:repeat(auto-fill,minmax(104px,1fr));gap:10px}
.samples figure{margin:0;border:1px solid var(--line);border-radius:6px;padding:8px;font-size:13px;line-height:1.4}
.samples img{display:block;width:100%;image-rendering:pixelated;background:var(--soft);margin-bottom:6px}
.samples pre{margin:0 0 6px;white-space:pre-wrap;overflow-wrap:anywhere;font-size:12px}
.right{color:var(--good)}.wrong{color:var(--bad);font-weight:600}
";

/// A whole page around a body.
pub(super) fn page(title: &str, body: &str) -> String {
    page::page(title, STYLE, body)
}

/// A cell with a text that may be long.
pub(super) fn text_cell(text: impl AsRef<str>) -> String {
    format!("<td class=\"text\">{}</td>", escaped(text.as_ref()))
}

/// Figures in boxes.
pub(super) fn tiles(figures: &[(String, String)]) -> String {
    let mut html = String::from("<dl class=\"tiles\">\n");
    for (name, value) in figures {
        // Long names break between their words.
        let name = escaped(name).replace('_', "_<wbr>");
        _ = writeln!(html, "<div><dt>{name}</dt><dd>{}</dd></div>", escaped(value));
    }
    html + "</dl>\n"
}

/// Seconds as a reader wants them.
pub(super) fn time(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match seconds {
        _ if seconds < 60.0 => format!("{seconds:.1} s"),
        _ if seconds < 3600.0 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}
