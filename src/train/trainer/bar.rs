//! A bar on a terminal. Without the feature `progress` there is none, and lines do.

/// Where something is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

#[cfg(feature = "progress")]
pub(super) use shown::Bar;

#[cfg(not(feature = "progress"))]
pub(super) use never::Bar;

#[cfg(feature = "progress")]
mod shown {
    use std::io::IsTerminal;

    use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

    use super::Stream;

    /// A bar, and what stands before and behind it.
    pub struct Bar(ProgressBar, Stream);

    impl Bar {
        /// A bar, if the stream is a terminal.
        pub fn on(stream: Stream) -> Option<Bar> {
            let (is_terminal, target) = match stream {
                Stream::Out => (std::io::stdout().is_terminal(), ProgressDrawTarget::stdout()),
                Stream::Err => (std::io::stderr().is_terminal(), ProgressDrawTarget::stderr()),
            };
            if !is_terminal {
                return None;
            }
            let bar = ProgressBar::with_draw_target(None, target);
            if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:20}] {pos}/{len}  {msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            Some(Bar(bar, stream))
        }

        pub fn show(&self, at: u64, of: u64, message: String) {
            self.0.set_length(of);
            self.0.set_message(message);
            self.0.set_position(at);
        }

        pub fn title(&self, title: String) {
            self.0.set_prefix(title);
        }

        /// A line above the bar.
        pub fn line(&self, text: &str) {
            self.0.suspend(|| match self.1 {
                Stream::Out => println!("{text}"),
                Stream::Err => eprintln!("{text}"),
            });
        }

        pub fn clear(&self) {
            self.0.finish_and_clear();
        }
    }
}

#[cfg(not(feature = "progress"))]
mod never {
    use super::Stream;

    /// No bar.
    pub enum Bar {}

    impl Bar {
        pub fn on(_: Stream) -> Option<Bar> {
            None
        }

        pub fn show(&self, _: u64, _: u64, _: String) {
            match *self {}
        }

        pub fn title(&self, _: String) {
            match *self {}
        }

        pub fn line(&self, _: &str) {
            match *self {}
        }

        pub fn clear(&self) {
            match *self {}
        }
    }
}
