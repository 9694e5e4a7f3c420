//! The keys of dialogs.

/// A key that the dialog understands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Press {
    Char(char),
    Erase,
    Enter,
    Escape,
    More,
    Less,
}
