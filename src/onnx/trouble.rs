//! What can go wrong with a model, before it is said of which node.

use crate::error::Error;

/// Why a node cannot be recorded.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// ONNX has it, Kiln has not.
    Unsupported(String),
    /// The model, or what is passed to it, is wrong.
    Wrong(String),
    /// An op of Kiln refused it.
    Op(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Op(error)
    }
}

/// `Err` with [`Trouble::Unsupported`].
pub fn unsupported<T>(what: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Unsupported(what.into()))
}

/// `Err` with [`Trouble::Wrong`].
pub fn wrong<T>(what: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Wrong(what.into()))
}

impl Trouble {
    /// The error of node `name`.
    pub fn of_node(self, name: &str) -> Error {
        match self {
            Trouble::Unsupported(what) => Error::Unsupported { what: format!("{name}: {what}") },
            Trouble::Wrong(what) => Error::Onnx {
                what: format!("{name}: {what}"),
                next: "check the model with `onnx.checker`, and the shapes and dtypes of its inputs",
            },
            Trouble::Op(error) => error.within(name),
        }
    }
}
