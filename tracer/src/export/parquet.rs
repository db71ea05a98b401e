//! Parquet: typed columns, texts as dictionaries, zstd. Rows are kept until a row group is full.

use std::{collections::HashMap, fmt::Display, hash::Hash, sync::Arc};

use anyhow::{Context, Result};
use parquet::{
    basic::{Compression, Encoding, ZstdLevel},
    data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int32Type, Int64Type},
    file::{
        properties::{EnabledStatistics, WriterProperties},
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::{parser::parse_message_type, types::ColumnPath},
};

use super::{
    Format,
    output::Output,
    row::{Gone, Row},
};
use crate::{
    capture::content::Header,
    event::{Event, Loss, State},
    table::Change,
};

/// Rows of a full group: some 50 MB of memory. Readers share groups out to their threads.
pub const GROUP: usize = 1 << 18;
/// Rows that are turned into columns at a time.
const TURNED: usize = 4096;

/// The columns and their types. [`super::row::COLUMNS`] in the same order.
const SCHEMA: &str = "message socklife {
    optional binary host (STRING);
    optional int64 ts (TIMESTAMP(NANOS, true));
    optional binary event (STRING);
    optional binary old (STRING);
    optional binary new (STRING);
    optional binary substate (STRING);
    optional boolean inferred;
    optional boolean failed;
    optional binary error (STRING);
    optional binary reason (STRING);
    optional binary src (STRING);
    optional int32 sport (INTEGER(16, false));
    optional binary dst (STRING);
    optional int32 dport (INTEGER(16, false));
    optional int32 family (INTEGER(8, false));
    optional binary side (STRING);
    optional int32 pid (INTEGER(32, false));
    optional binary comm (STRING);
    optional binary owner (STRING);
    optional int32 netns (INTEGER(32, false));
    optional binary cgroup (STRING);
    optional int64 cookie (INTEGER(64, false));
    optional int64 age_us (INTEGER(64, false));
    optional int64 lost (INTEGER(64, false));
    optional int64 lost_states (INTEGER(64, false));
    optional int64 lost_failures (INTEGER(64, false));
    optional int64 missed (INTEGER(64, false));
    optional int64 lost_owners (INTEGER(64, false));
    optional int64 skipped_calls (INTEGER(64, false));
    optional binary why (STRING);
}";

/// Columns whose values hardly repeat, but rise or are near each other.
const DELTAS: [&str; 3] = ["ts", "cookie", "age_us"];

/// `--to parquet`
pub struct Parquet {
    writer: SerializedFileWriter<Output>,
    host: String,
    epoch_ns: u64,
    rows: Vec<Row<u32>>,
    /// What hosts in the rows stand for.
    hosts: Texts,
    /// What cgroups in the rows stand for.
    cgroups: Texts,
}

impl Parquet {
    /// Writes the beginning.
    ///
    /// # Errors
    /// It can't be written.
    pub fn new(output: Output) -> Result<Self> {
        let schema = Arc::new(parse_message_type(SCHEMA)?);
        let mut properties = WriterProperties::builder()
            .set_created_by(concat!("socklife ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true);
        for name in DELTAS {
            let column = ColumnPath::from(name);
            properties = properties
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
        }
        let writer = SerializedFileWriter::new(output, schema, Arc::new(properties.build()));
        let writer = writer.context("can't write")?;
        Ok(Self {
            writer,
            host: String::new(),
            epoch_ns: 0,
            rows: Vec::new(),
            hosts: Texts::default(),
            cgroups: Texts::default(),
        })
    }

    fn push(&mut self, row: Row<u32>) -> Result<()> {
        self.rows.push(row);
        if self.rows.len() >= GROUP { self.write() } else { Ok(()) }
    }

    /// The rows that are kept, as a row group.
    fn write(&mut self) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let group = self.writer.next_row_group().context("can't write")?;
        let to = Columns { group, rows: &self.rows };
        columns(to, &self.hosts, &self.cgroups).context("can't write")?;
        self.rows.clear();
        (self.hosts, self.cgroups) = (Texts::default(), Texts::default());
        Ok(())
    }
}

impl Format for Parquet {
    fn begin(&mut self, header: &Header, host: &str) -> Result<()> {
        host.clone_into(&mut self.host);
        self.epoch_ns = header.epoch_ns;
        Ok(())
    }

    fn event(&mut self, event: &Event, change: &Change, cgroup: Option<&str>) -> Result<()> {
        let host = self.hosts.code(&self.host);
        let cgroup = cgroup.map(|path| self.cgroups.code(path));
        self.push(Row::of(host, self.epoch_ns, event, change, cgroup))
    }

    fn gone(&mut self, gone: Gone) -> Result<()> {
        let host = self.hosts.code(&self.host);
        self.push(Row::gone(host, gone))
    }

    fn end(mut self: Box<Self>) -> Result<Output> {
        self.write()?;
        self.writer.into_inner().context("can't write")
    }
}

/// Texts of a row group, each once.
#[derive(Default)]
struct Texts {
    codes: HashMap<String, u32>,
    all: Vec<ByteArray>,
    last: u32,
}

impl Texts {
    fn code(&mut self, text: &str) -> u32 {
        if self.get(self.last).is_some_and(|last| last.data() == text.as_bytes()) {
            return self.last;
        }
        if let Some(code) = self.codes.get(text) {
            self.last = *code;
            return *code;
        }
        // There are not more than rows.
        let code = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.codes.insert(text.to_owned(), code);
        self.all.push(text.into());
        self.last = code;
        code
    }

    fn get(&self, code: u32) -> Option<&ByteArray> {
        self.all.get(code as usize)
    }
}

type Written = parquet::errors::Result<()>;

/// All columns, in the order of [`SCHEMA`].
fn columns(mut to: Columns<'_>, hosts: &Texts, cgroups: &Texts) -> Written {
    let cgroup = |row: &Row<u32>| cgroups.get(row.facts.cgroup?).cloned();
    let state = |state: &State| state.name();
    to.put::<ByteArrayType>(|row| hosts.get(row.host).cloned())?;
    to.put::<Int64Type>(|row| row.ts_ns.map(|ns| i64::try_from(ns).unwrap_or(i64::MAX)))?;
    to.text(|row| Some(row.facts.event))?;
    to.text(|row| row.facts.old.as_ref().map(state))?;
    to.text(|row| row.facts.new.as_ref().map(state))?;
    to.text(|row| row.facts.substate.as_ref().map(state))?;
    to.put::<BoolType>(Row::inferred)?;
    to.put::<BoolType>(|row| row.failed)?;
    to.text(|row| row.facts.error)?;
    to.text(|row| row.facts.reason)?;
    to.text(|row| row.facts.src)?;
    to.int(|row| row.facts.sport.map(u32::from))?;
    to.text(|row| row.facts.dst)?;
    to.int(|row| row.facts.dport.map(u32::from))?;
    to.int(|row| row.facts.family.map(u32::from))?;
    to.text(|row| row.side)?;
    to.int(|row| row.facts.pid)?;
    to.text(|row| row.facts.comm)?;
    to.text(Row::owner)?;
    to.int(|row| row.facts.netns)?;
    to.put::<ByteArrayType>(cgroup)?;
    to.long(|row| row.facts.cookie)?;
    to.long(|row| row.facts.age_us)?;
    to.long(Row::lost)?;
    let parts: [fn(&Loss) -> u64; 5] =
        [|it| it.states, |it| it.failures, |it| it.missed, |it| it.owners, |it| it.calls];
    for part in parts {
        to.long(|row| row.loss().map(part))?;
    }
    to.text(Row::why)?;
    to.group.close().map(drop)
}

/// Turns rows into the next columns of a row group.
struct Columns<'a> {
    group: SerializedRowGroupWriter<'a, Output>,
    rows: &'a [Row<u32>],
}

impl Columns<'_> {
    fn put<T: DataType>(&mut self, mut value: impl FnMut(&Row<u32>) -> Option<T::T>) -> Written {
        let Some(mut column) = self.group.next_column()? else {
            return Err(parquet::errors::ParquetError::General("more columns than named".into()));
        };
        let (mut values, mut levels) = (Vec::with_capacity(TURNED), Vec::with_capacity(TURNED));
        for rows in self.rows.chunks(TURNED) {
            values.clear();
            levels.clear();
            for row in rows {
                let value = value(row);
                levels.push(i16::from(value.is_some()));
                values.extend(value);
            }
            column.typed::<T>().write_batch(&values, Some(&levels), None)?;
        }
        column.close()
    }

    /// Texts are made once for each value.
    fn text<K: Copy + Eq + Hash + Display>(
        &mut self,
        value: impl Fn(&Row<u32>) -> Option<K>,
    ) -> Written {
        let mut made: HashMap<K, ByteArray> = HashMap::new();
        let mut last: Option<(K, ByteArray)> = None;
        self.put::<ByteArrayType>(|row| {
            let key = value(row)?;
            if let Some((_, text)) = last.as_ref().filter(|(before, _)| *before == key) {
                return Some(text.clone());
            }
            let text = made.entry(key).or_insert_with(|| ByteArray::from(&*key.to_string()));
            last = Some((key, text.clone()));
            Some(text.clone())
        })
    }

    fn int(&mut self, value: impl Fn(&Row<u32>) -> Option<u32>) -> Written {
        self.put::<Int32Type>(|row| value(row).map(u32::cast_signed))
    }

    fn long(&mut self, value: impl Fn(&Row<u32>) -> Option<u64>) -> Written {
        self.put::<Int64Type>(|row| value(row).map(u64::cast_signed))
    }
}
