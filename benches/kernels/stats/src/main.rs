//! Compiles compute shaders with RADV for GPUs that need not be there, and prints a table of what came out. See `../README.md`.

mod driver;
mod isa;
mod model;
mod spirv;

use std::path::{Path, PathBuf};

use driver::Driver;

pub type Failure = Box<dyn std::error::Error>;

const HELP: &str = "kernel-stats [options] FILE.wgsl|FOLDER ...
  --device NAME     a family of GPUs, several times: NAVI21, GFX1100 and VEGA10 unless it is said
  --isa FOLDER      writes each shader's machine code there
  --loops           prints every loop of it
  --trips N         rounds of a loop inside the hottest loop's parent, where the code does not tell
";

struct Options {
    devices: Vec<String>,
    isa: Option<PathBuf>,
    loops: bool,
    trips: Option<u64>,
    files: Vec<PathBuf>,
}

fn options() -> Result<Options, Failure> {
    let mut options = Options { devices: vec![], isa: None, loops: false, trips: None, files: vec![] };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--device" => options.devices.push(value()?.to_uppercase()),
            "--isa" => options.isa = Some(value()?.into()),
            "--loops" => options.loops = true,
            "--trips" => options.trips = Some(value()?.parse()?),
            flag if flag.starts_with('-') => return Err(format!("unknown option {flag}\n{HELP}").into()),
            path if Path::new(path).is_dir() => {
                let files = std::fs::read_dir(path)?.flatten().map(|file| file.path());
                options.files.extend(files.filter(|file| file.extension().is_some_and(|it| it == "wgsl")));
            }
            file => options.files.push(file.into()),
        }
    }
    options.files.sort();
    if options.files.is_empty() {
        return Err(format!("no shader\n{HELP}").into());
    }
    if options.devices.is_empty() {
        options.devices = ["NAVI21", "GFX1100", "VEGA10"].map(String::from).to_vec();
    }
    Ok(options)
}

/// SPIR-V of a WGSL text, by the options that wgpu's Vulkan back end gives naga for a trusted module where the driver guards
/// buffers.
fn translate(text: &str) -> Result<Vec<u32>, Failure> {
    use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
    let module = naga::front::wgsl::parse_str(text).map_err(|error| error.emit_to_string(text))?;
    let mut validator = naga::valid::Validator::new(Default::default(), naga::valid::Capabilities::all());
    let info = validator.validate(&module).map_err(|error| error.emit_to_string(text))?;
    let entry = module.entry_points.first().ok_or("no entry point")?;
    let spv = naga::back::spv::Options {
        lang_version: (1, 6),
        flags: naga::back::spv::WriterFlags::LABEL_VARYINGS,
        bounds_check_policies: BoundsCheckPolicies {
            index: BoundsCheckPolicy::Restrict,
            buffer: BoundsCheckPolicy::Unchecked,
            image_load: BoundsCheckPolicy::Unchecked,
            binding_array: BoundsCheckPolicy::Unchecked,
        },
        zero_initialize_workgroup_memory: naga::back::spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        emit_int_div_checks: false,
        ..Default::default()
    };
    let pipeline =
        naga::back::spv::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: entry.name.clone() };
    Ok(naga::back::spv::write_vec(&module, &info, &spv, Some(&pipeline))?)
}

fn main() -> Result<(), Failure> {
    let options = options()?;
    let mut failed = 0;
    for device in &options.devices {
        let driver = Driver::open(device)?;
        println!("\n{device}\n\n{}", model::HEAD);
        for file in &options.files {
            if let Err(error) = show(file, &driver, device, &options) {
                failed += 1;
                eprintln!("{}: {error}", file.display());
            }
        }
    }
    if failed > 0 { Err(format!("{failed} failed").into()) } else { Ok(()) }
}

/// Prints the row of a shader.
fn show(file: &Path, driver: &Driver, device: &str, options: &Options) -> Result<(), Failure> {
    let compiled = driver.compile(&translate(&std::fs::read_to_string(file)?)?)?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    if let Some(folder) = &options.isa {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join(format!("{name}.{device}.s")), &compiled.assembly)?;
    }
    let program = isa::Program::parse(&compiled.assembly);
    let machine = model::Machine::of(device, compiled.subgroup);
    let report = model::Report::new(&program, &machine, options.trips, |name| compiled.statistic(name));
    let (workload, kernel) = name.split_once("__").unwrap_or(("", &name));
    println!("{}", report.row(workload, kernel));
    if options.loops {
        for (at, it) in program.loops.iter().enumerate() {
            let own = program.count(at);
            println!("  loop {at} at {} depth {}: {}", it.first, program.depth(at), own.text());
        }
    }
    Ok(())
}
