#![no_main]

#[global_allocator]
static COUNTING: kiln_fuzz::memory::Counting = kiln_fuzz::memory::Counting;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    kiln_fuzz::onnx::onnx(bytes);
});
