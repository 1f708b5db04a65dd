//! Puts the page together, and serves it on this machine alone.
//!
//! `kiln-web-tool build WASM FOLDER` writes the page and the glue between its script and the compiled library.
//! `kiln-web-tool check WASM FOLDER` adds what the test of the page trains.
//! `kiln-web-tool serve FOLDER PORT` serves the folder on 127.0.0.1.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The page's own files, next to what is compiled.
const PAGE: [&str; 4] = ["index.html", "page.css", "page.js", "worker.js"];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["build", wasm, folder] => build(Path::new(wasm), Path::new(folder)),
        ["check", wasm, folder] => {
            glue(Path::new(wasm), Path::new(folder), "kiln_web_check")?;
            copy(Path::new(folder), "check.html")
        }
        ["serve", folder, port] => serve(Path::new(folder), port.parse().context("a port is a number")?),
        _ => bail!("kiln-web-tool build WASM FOLDER, check WASM FOLDER, or serve FOLDER PORT"),
    }
}

fn build(wasm: &Path, folder: &Path) -> Result<()> {
    glue(wasm, folder, "kiln_web")?;
    PAGE.iter().try_for_each(|name| copy(folder, name))?;
    let size = std::fs::metadata(folder.join("kiln_web_bg.wasm"))?.len();
    println!("{}: {} kB of wasm", folder.display(), size / 1000);
    Ok(())
}

/// What stands between a script and what is compiled.
fn glue(wasm: &Path, folder: &Path, name: &str) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    wasm_bindgen_cli_support::Bindgen::new()
        .input_path(wasm)
        .web(true)?
        .typescript(false)
        .remove_name_section(true)
        .remove_producers_section(true)
        .out_name(name)
        .generate(folder)
        .with_context(|| format!("the glue of {}", wasm.display()))
}

fn copy(folder: &Path, name: &str) -> Result<()> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../page");
    std::fs::copy(page.join(name), folder.join(name)).with_context(|| format!("{name} of the page"))?;
    Ok(())
}

fn serve(folder: &Path, port: u16) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).with_context(|| format!("port {port} of 127.0.0.1"))?;
    println!("http://127.0.0.1:{}/", listener.local_addr()?.port());
    for stream in listener.incoming().flatten() {
        let folder = folder.to_path_buf();
        std::thread::spawn(move || {
            // A reader that goes away is no reason to stop.
            let _ = answer(stream, &folder);
        });
    }
    Ok(())
}

fn answer(mut stream: TcpStream, folder: &Path) -> Result<()> {
    // Nobody sends us more than a request's head.
    let mut head = BufReader::new((&stream).take(16 << 10));
    let mut line = String::new();
    head.read_line(&mut line)?;
    let mut header = String::new();
    while head.read_line(&mut header)? > 2 {
        header.clear();
    }
    let mut words = line.split(' ');
    let (method, path) = (words.next(), words.next().unwrap_or("/"));
    let (status, kind, body) = match file_of(folder, path).filter(|_| method == Some("GET")) {
        Some(file) => ("200 OK", kind_of(&file), std::fs::read(file)?),
        None => ("404 Not Found", "text/plain", b"there is no such file".to_vec()),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)?;
    Ok(())
}

/// The file that a path asks for: one of the folder itself, whatever the path says.
fn file_of(folder: &Path, path: &str) -> Option<PathBuf> {
    let name = path.split(['?', '#']).next()?.trim_start_matches('/');
    let name = if name.is_empty() { "index.html" } else { name };
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) && !name.starts_with('.');
    let file = folder.join(name);
    (is_plain && file.is_file()).then_some(file)
}

fn kind_of(file: &Path) -> &'static str {
    match file.extension().and_then(|end| end.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css",
        Some("js") => "text/javascript",
        Some("wasm") => "application/wasm",
        _ => "application/octet-stream",
    }
}
