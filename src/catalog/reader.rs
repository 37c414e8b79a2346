//! A read transaction: all that can be asked, one theme a file.

/// Is a read transaction; [`super::Tx`] derefs to it, so a write transaction can ask the same.
pub struct Reader {
    _private: (),
}
