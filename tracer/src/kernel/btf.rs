//! Field offsets from the kernel's own type information.
//!
//! Rust's eBPF has no CO-RE relocations, so userspace looks the offsets up in
//! `/sys/kernel/btf/vmlinux` before it loads the programs. Format: Documentation/bpf/btf.rst and
//! include/uapi/linux/btf.h in the kernel tree.

use std::{collections::HashMap, path::Path};

/// Why a field's offset could not be had.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file can't be read: a kernel without `CONFIG_DEBUG_INFO_BTF`, or no permission.
    #[error("can't read the kernel's type information (BTF) at {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// The system's word.
        source: std::io::Error,
    },
    /// The bytes are not BTF, or end early.
    #[error("the kernel's type information (BTF) is malformed: {0}")]
    Malformed(&'static str),
    /// This kernel has no such type.
    #[error("the kernel's type information has no struct {0}")]
    NoStruct(String),
    /// This kernel's type has no such field.
    #[error("the kernel's struct {0} has no field {1}")]
    NoField(String, String),
}

const MAGIC: u16 = 0xeb9f;
const KIND_PTR: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_FUNC: u32 = 12;

/// The structs and unions of a BTF blob.
#[derive(Debug)]
pub struct Btf {
    data: Vec<u8>,
    strings: usize,
    /// Where each type starts in `data`, by type id − 1.
    types: Vec<usize>,
    structs: HashMap<Vec<u8>, u32>,
    functions: HashMap<Vec<u8>, u32>,
}

impl Btf {
    /// Reads the running kernel's BTF.
    ///
    /// # Errors
    /// [`BtfError::Read`], [`BtfError::Malformed`].
    pub fn of_this_kernel() -> Result<Self, BtfError> {
        Self::read(Path::new("/sys/kernel/btf/vmlinux"))
    }

    /// Reads a BTF blob from a file.
    ///
    /// # Errors
    /// [`BtfError::Read`], [`BtfError::Malformed`].
    pub fn read(path: &Path) -> Result<Self, BtfError> {
        let data = std::fs::read(path)
            .map_err(|source| BtfError::Read { path: path.display().to_string(), source })?;
        Self::parse(data)
    }

    /// Indexes a BTF blob.
    ///
    /// # Errors
    /// [`BtfError::Malformed`].
    pub fn parse(data: Vec<u8>) -> Result<Self, BtfError> {
        let word = |at: usize| read_u32(&data, at);
        if data.get(..2) != Some(&MAGIC.to_le_bytes()) {
            return Err(BtfError::Malformed("wrong magic number"));
        }
        let header = word(4)? as usize;
        let types_at = header + word(8)? as usize;
        let types_end = types_at + word(12)? as usize;
        let strings = header + word(16)? as usize;

        let mut types = Vec::new();
        let (mut structs, mut functions) = (HashMap::new(), HashMap::new());
        let mut at = types_at;
        while at < types_end {
            let info = word(at + 4)?;
            let kind = (info >> 24) & 0x1f;
            types.push(at);
            if kind == KIND_STRUCT {
                let name = c_str(&data, strings + word(at)? as usize)?;
                let id = u32::try_from(types.len()).unwrap_or(u32::MAX);
                structs.entry(name.to_vec()).or_insert(id);
            } else if kind == KIND_FUNC {
                let name = c_str(&data, strings + word(at)? as usize)?;
                functions.entry(name.to_vec()).or_insert(word(at + 8)?);
            }
            at += 12 + trailer(kind, info & 0xffff)?;
        }
        Ok(Self { data, strings, types, structs, functions })
    }

    /// Byte offset of a field, by a path of members such as `ns.inum`. Members of anonymous structs
    /// and unions are found as C finds them.
    ///
    /// # Errors
    /// [`BtfError::NoStruct`], [`BtfError::NoField`], [`BtfError::Malformed`].
    pub fn offset(&self, of: &str, path: &str) -> Result<u32, BtfError> {
        Ok(self.field(of, path)?.0 / 8)
    }

    /// Whether a field, found as by [`Self::offset`], is a pointer.
    ///
    /// # Errors
    /// As [`Self::offset`].
    pub fn is_pointer(&self, of: &str, path: &str) -> Result<bool, BtfError> {
        let (_, id) = self.field(of, path)?;
        let at = self.types.get((id as usize).wrapping_sub(1));
        let at = *at.ok_or(BtfError::Malformed("a type that is not there"))?;
        Ok((read_u32(&self.data, at + 4)? >> 24) & 0x1f == KIND_PTR)
    }

    /// Size of a struct in bytes.
    ///
    /// # Errors
    /// [`BtfError::NoStruct`], [`BtfError::Malformed`].
    pub fn size(&self, of: &str) -> Result<u32, BtfError> {
        let at = *self
            .types
            .get((self.id(of)? as usize).wrapping_sub(1))
            .ok_or(BtfError::Malformed("a type that is not there"))?;
        read_u32(&self.data, at + 8)
    }

    fn id(&self, of: &str) -> Result<u32, BtfError> {
        let id = self.structs.get(of.as_bytes());
        id.copied().ok_or_else(|| BtfError::NoStruct(of.to_owned()))
    }

    /// Bit offset and type of a field.
    fn field(&self, of: &str, path: &str) -> Result<(u32, u32), BtfError> {
        let mut id = self.id(of)?;
        let mut bits = 0;
        for name in path.split('.') {
            let (at, member) = self
                .member(id, name.as_bytes(), 0)?
                .ok_or_else(|| BtfError::NoField(of.to_owned(), path.to_owned()))?;
            bits += at;
            id = member;
        }
        Ok((bits, id))
    }

    /// How many arguments a function takes; `None`: this kernel has no such function, or inlined it.
    #[must_use]
    pub fn arguments(&self, function: &str) -> Option<u32> {
        let prototype = *self.functions.get(function.as_bytes())?;
        let at = *self.types.get((prototype as usize).checked_sub(1)?)?;
        Some(read_u32(&self.data, at + 4).ok()? & 0xffff)
    }

    /// Bit offset and type of a member of a struct or union, through anonymous ones.
    fn member(&self, id: u32, name: &[u8], depth: u32) -> Result<Option<(u32, u32)>, BtfError> {
        let Some(&at) = self.types.get((id as usize).wrapping_sub(1)) else {
            return Ok(None);
        };
        let info = read_u32(&self.data, at + 4)?;
        let kind = (info >> 24) & 0x1f;
        if depth > 8 {
            return Ok(None);
        }
        if matches!(kind, KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST) {
            return self.member(read_u32(&self.data, at + 8)?, name, depth + 1);
        }
        if !matches!(kind, KIND_STRUCT | KIND_UNION) {
            return Ok(None);
        }
        let bitfields = info >> 31 == 1;
        for index in 0..(info & 0xffff) as usize {
            let field = at + 12 + index * 12;
            let field_name =
                c_str(&self.data, self.strings + read_u32(&self.data, field)? as usize)?;
            let field_type = read_u32(&self.data, field + 4)?;
            let raw = read_u32(&self.data, field + 8)?;
            let bits = if bitfields { raw & 0x00ff_ffff } else { raw };
            if field_name == name {
                return Ok(Some((bits, field_type)));
            }
            if field_name.is_empty()
                && let Some((inner, found)) = self.member(field_type, name, depth + 1)?
            {
                return Ok(Some((bits + inner, found)));
            }
        }
        Ok(None)
    }
}

/// Bytes after the 12 that every type has, by kind (`struct btf_type`).
fn trailer(kind: u32, members: u32) -> Result<usize, BtfError> {
    let members = members as usize;
    Ok(match kind {
        1 | 14 | 17 => 4,          // int, var, decl tag
        2 | 7..=12 | 16 | 18 => 0, // ptr, fwd … func, float, type tag
        KIND_ARRAY => 12,
        KIND_STRUCT | KIND_UNION | 15 | 19 => members * 12, // and data sections, 64-bit enums
        6 | 13 => members * 8,                              // enum, function prototype
        _ => return Err(BtfError::Malformed("a kind of type that is not known")),
    })
}

fn read_u32(data: &[u8], at: usize) -> Result<u32, BtfError> {
    data.get(at..at + 4)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u32::from_le_bytes)
        .ok_or(BtfError::Malformed("it ends early"))
}

fn c_str(data: &[u8], at: usize) -> Result<&[u8], BtfError> {
    let tail = data.get(at..).ok_or(BtfError::Malformed("a name lies outside"))?;
    let end = tail.iter().position(|&b| b == 0);
    end.map(|end| &tail[..end]).ok_or(BtfError::Malformed("a name has no end"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct outer { int a; struct { char b; union { int c; }; }; }` by hand.
    fn sample() -> Vec<u8> {
        let strings = b"\0outer\0a\0b\0c\0int\0";
        let (outer, a, b, c, int) = (1u32, 7u32, 9u32, 11u32, 13u32);
        let mut types = Vec::new();
        let mut push = |words: &[u32]| {
            for word in words {
                types.extend_from_slice(&word.to_le_bytes());
            }
        };
        push(&[int, 1 << 24, 4, 32]); // 1: int
        push(&[0, (KIND_UNION << 24) | 1, 4, c, 1, 0]); // 2: union { int c; }
        push(&[0, (KIND_STRUCT << 24) | 2, 8, b, 1, 0, 0, 2, 32]); // 3: struct { b; union }
        push(&[outer, (KIND_STRUCT << 24) | 2, 12, a, 1, 0, 0, 3, 32]); // 4: outer
        let mut blob = Vec::new();
        blob.extend_from_slice(&MAGIC.to_le_bytes());
        blob.extend_from_slice(&[1, 0]);
        let size = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
        for word in [24, 0, size(&types), size(&types), size(strings)] {
            blob.extend_from_slice(&word.to_le_bytes());
        }
        blob.extend_from_slice(&types);
        blob.extend_from_slice(strings);
        blob
    }

    #[test]
    fn finds_fields_through_anonymous_members() {
        let btf = Btf::parse(sample()).unwrap();
        assert_eq!(btf.offset("outer", "a").unwrap(), 0);
        assert_eq!(btf.offset("outer", "b").unwrap(), 4);
        assert_eq!(btf.offset("outer", "c").unwrap(), 8);
        assert_eq!(btf.size("outer").unwrap(), 12);
        assert!(!btf.is_pointer("outer", "c").unwrap());
    }

    #[test]
    fn names_what_is_missing() {
        let btf = Btf::parse(sample()).unwrap();
        let message = btf.offset("outer", "z").unwrap_err().to_string();
        assert_eq!(message, "the kernel's struct outer has no field z");
        let message = btf.offset("inner", "a").unwrap_err().to_string();
        assert_eq!(message, "the kernel's type information has no struct inner");
    }

    #[test]
    fn every_truncation_is_an_error_or_harmless() {
        let blob = sample();
        for end in 0..blob.len() {
            if let Ok(btf) = Btf::parse(blob[..end].to_vec()) {
                let _ = btf.offset("outer", "c");
            }
        }
    }
}
