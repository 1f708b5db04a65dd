//! Makes the module `shaders` of the texts in `shaders/`: a static a file, in modules that mirror the folders.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

#[path = "build/wgsl.rs"]
mod wgsl;

fn main() {
    println!("cargo::rerun-if-changed=shaders");
    println!("cargo::rerun-if-changed=build");
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let mut out = String::new();
    let faults = room(&Path::new(&root).join("shaders"), &mut out);
    for fault in &faults {
        println!("cargo::error={fault}");
    }
    let target = env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&target).join("shaders.rs"), out).expect("the folder of the build can be written");
}

/// Writes what is in a folder and returns what is wrong with it.
fn room(folder: &Path, out: &mut String) -> Vec<String> {
    let mut faults = vec![];
    let mut entries: Vec<_> = fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            let _ = writeln!(out, "pub(crate) mod {name} {{\nuse crate::shader::*;");
            faults.extend(room(&path, out));
            out.push_str("}\n");
            continue;
        }
        let text = fs::read_to_string(&path).expect("a text");
        match wgsl::parse(&text) {
            Ok(file) => write(&name.to_uppercase(), &file, out),
            Err((line, what)) => faults.push(format!("{}:{line}: {what}", path.display())),
        }
    }
    faults
}

fn write(name: &str, file: &wgsl::File, out: &mut String) {
    let facts = |facts: &std::collections::HashSet<&str>| {
        let known = wgsl::FACTS.iter().filter(|(name, _)| facts.contains(name));
        known.fold("Facts::NONE".to_string(), |all, (name, _)| format!("{all}.and(Facts::{name})"))
    };
    let _ = write!(out, "pub(crate) static {name}: File = File {{ items: &[");
    for item in &file.items {
        let constant = if item.constant { format!("Some({:?})", item.value) } else { "None".into() };
        let _ = write!(
            out,
            "Item {{ name: Text::Borrowed({:?}), text: Text::Borrowed({:?}), facts: {}, constant: {constant} }},",
            item.name,
            item.text,
            facts(&item.facts)
        );
    }
    out.push_str("], main: ");
    match &file.main {
        None => out.push_str("None"),
        Some(main) => {
            let _ = write!(out, "Some(&Main {{ parameters: &[");
            for (name, value) in &main.parameters {
                let value: String = value.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
                let _ = write!(out, "({name:?}, Builtin::{value}),");
            }
            out.push_str("], workgroup: [");
            for axis in 0..3 {
                match main.workgroup.get(axis).map(String::as_str) {
                    None => out.push_str("Size::Is(1),"),
                    Some(size) => match size.trim_end_matches('u').parse::<u32>() {
                        Ok(number) => drop(write!(out, "Size::Is({number}),")),
                        Err(_) => drop(write!(out, "Size::Of({size:?}),")),
                    },
                }
            }
            let _ = write!(out, "], body: Text::Borrowed({:?}), facts: {} }})", main.body, facts(&main.facts));
        }
    }
    out.push_str(" };\n");
}
