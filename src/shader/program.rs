//! Shaders that dispatches share, each joined to a text once.

use std::sync::{Arc, OnceLock};

use rustc_hash::FxHashMap;

use super::Shader;

/// A shader, and its text as soon as someone asks for it.
#[derive(Debug)]
pub struct Program {
    /// Its parts.
    pub shader: Shader,
    text: OnceLock<Arc<str>>,
}

impl Program {
    /// Of a shader that no dispatch has yet.
    pub fn new(shader: Shader) -> Arc<Program> {
        Arc::new(Program { shader, text: OnceLock::new() })
    }

    /// Its text.
    pub fn text(&self) -> &Arc<str> {
        self.text.get_or_init(|| self.shader.text().into())
    }
}

/// The programs of a plan: shaders that are alike are one.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    whole: FxHashMap<Shader, Arc<Program>>,
    /// By what their shaders were before they were completed.
    open: FxHashMap<Shader, Arc<Program>>,
}

impl Programs {
    pub fn of(&mut self, shader: Shader) -> Arc<Program> {
        if let Some(known) = self.whole.get(&shader) {
            return known.clone();
        }
        let program = Program::new(shader.clone());
        self.whole.insert(shader, program.clone());
        program
    }

    /// The program of a shader to which `complete` adds what it lacks, which is looked for once for all that are alike.
    pub fn completed(&mut self, shader: Shader, complete: fn(&mut Shader)) -> Arc<Program> {
        if let Some(known) = self.open.get(&shader) {
            return known.clone();
        }
        let mut whole = shader.clone();
        complete(&mut whole);
        let program = self.of(whole);
        self.open.insert(shader, program.clone());
        program
    }
}
