//! Shaders that dispatches share, each joined to a text once.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

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
pub(crate) struct Programs(HashMap<Shader, Arc<Program>>);

impl Programs {
    pub fn of(&mut self, shader: Shader) -> Arc<Program> {
        if let Some(known) = self.0.get(&shader) {
            return known.clone();
        }
        let program = Program::new(shader.clone());
        self.0.insert(shader, program.clone());
        program
    }
}
