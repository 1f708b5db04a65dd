//! The uniform of a kernel: one declaration makes the Rust struct whose words are sent and the WGSL struct that reads them.

use super::Item;

/// A type that a member of a uniform may have.
pub(crate) trait Word {
    /// Its type in WGSL.
    fn kind() -> String;
    fn push(self, words: &mut Vec<u32>);
}

impl Word for u32 {
    fn kind() -> String {
        "u32".into()
    }

    fn push(self, words: &mut Vec<u32>) {
        words.push(self);
    }
}

/// Sizes are `usize` here and u32 there; what passes u32 has been refused before.
impl Word for usize {
    fn kind() -> String {
        "u32".into()
    }

    fn push(self, words: &mut Vec<u32>) {
        words.push(self as u32);
    }
}

impl Word for f32 {
    fn kind() -> String {
        "f32".into()
    }

    fn push(self, words: &mut Vec<u32>) {
        words.push(self.to_bits());
    }
}

/// A vector begins at a multiple of its size.
impl<const N: usize> Word for [[u32; 4]; N] {
    fn kind() -> String {
        format!("array<vec4<u32>, {N}>")
    }

    fn push(self, words: &mut Vec<u32>) {
        words.resize(words.len().next_multiple_of(4), 0);
        words.extend(self.as_flattened());
    }
}

/// A declared uniform: see [`params`].
pub(crate) trait Params {
    /// (name, type) of its members.
    fn members() -> Vec<(&'static str, String)>;
    /// Its words.
    fn words(self) -> Vec<u32>;

    /// Its struct in WGSL.
    fn item() -> Item {
        let members = Self::members().into_iter().map(|(name, kind)| format!("    {name}: {kind},\n"));
        Item::new("Params", format!("struct $Params$ {{\n{}}}\n", members.collect::<String>()))
    }
}

/// The members of one, then those of another, which begins with numbers.
impl<A: Params, B: Params> Params for (A, B) {
    fn members() -> Vec<(&'static str, String)> {
        [A::members(), B::members()].concat()
    }

    fn words(self) -> Vec<u32> {
        [self.0.words(), self.1.words()].concat()
    }
}

/// Declares the uniform of a kernel, `p` in its shader: members without a type are sizes.
macro_rules! params {
    ($(#[$doc:meta])* $visible:vis struct $name:ident { $($(#[$about:meta])* $member:ident $(: $kind:ty)?),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        $visible struct $name { $($(#[$about])* pub $member: $crate::shader::params!(@kind $($kind)?)),+ }

        impl $crate::shader::Params for $name {
            fn members() -> Vec<(&'static str, String)> {
                vec![$((
                    stringify!($member),
                    <$crate::shader::params!(@kind $($kind)?) as $crate::shader::Word>::kind(),
                )),+]
            }

            fn words(self) -> Vec<u32> {
                let mut words = vec![];
                $($crate::shader::Word::push(self.$member, &mut words);)+
                words
            }
        }
    };
    (@kind) => { usize };
    (@kind $kind:ty) => { $kind };
}

pub(crate) use params;
