//! Features as a Parquet file: a row for each picture, with the columns `name` (text), `label` (int64, where there are
//! labels) and `features` (a list of float32). Encoder and class names are in the metadata, as JSON under the key `byol`.
//!
//! Row groups hold a few MiB, so that memory does not grow with the number of pictures.

use std::io::{self, Write};
use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, FloatType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

/// Values of a row group: 4 MiB of them, and as much for the levels that say where a list begins.
const VALUES_AT_ONCE: usize = 1 << 20;

/// A file that is being written.
pub(crate) struct FeatureTable<'a> {
    out: SerializedFileWriter<&'a mut (dyn Write + Send)>,
    dimension: usize,
    labelled: bool,
    names: Vec<ByteArray>,
    labels: Vec<i64>,
    values: Vec<f32>,
}

impl<'a> FeatureTable<'a> {
    pub(crate) fn begin(
        out: &'a mut (dyn Write + Send),
        encoder: &str,
        dimension: usize,
        labelled: bool,
        classes: &[String],
    ) -> io::Result<Self> {
        let label = if labelled { "required int64 label;" } else { "" };
        let schema = format!(
            "message features {{ required binary name (STRING); {label} required group features (LIST) {{ repeated group \
             list {{ required float element; }} }} }}"
        );
        let schema = Arc::new(parse_message_type(&schema).map_err(failed)?);
        let ours = serde_json::json!({
            "kind": "features", "format": 1, "encoder": encoder, "classes": classes, "dimension": dimension,
        });
        // Features hardly get smaller, and hardly one is like another.
        let properties = WriterProperties::builder()
            .set_compression(Compression::UNCOMPRESSED)
            .set_column_compression(ColumnPath::from("name"), Compression::ZSTD(ZstdLevel::default()))
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_key_value_metadata(Some(vec![KeyValue::new("byol".to_owned(), ours.to_string())]));
        let out = SerializedFileWriter::new(out, schema, Arc::new(properties.build())).map_err(failed)?;
        Ok(Self { out, dimension, labelled, names: Vec::new(), labels: Vec::new(), values: Vec::new() })
    }

    /// Adds a row; `label` where the table has labels.
    pub(crate) fn push(
        &mut self,
        name: String,
        label: Option<u32>,
        values: impl Iterator<Item = f32>,
    ) -> io::Result<()> {
        self.names.push(ByteArray::from(name.into_bytes()));
        self.labels.extend(label.map(i64::from));
        self.values.extend(values);
        if self.values.len() + self.dimension > VALUES_AT_ONCE { self.write().map_err(failed) } else { Ok(()) }
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        if !self.names.is_empty() {
            self.write().map_err(failed)?;
        }
        self.out.close().map(drop).map_err(failed)
    }

    /// Writes what is there as a row group.
    fn write(&mut self) -> Result<(), ParquetError> {
        let missing = || ParquetError::General("a column is missing".into());
        let mut group = self.out.next_row_group()?;
        let mut column = group.next_column()?.ok_or_else(missing)?;
        column.typed::<ByteArrayType>().write_batch(&self.names, None, None)?;
        column.close()?;
        if self.labelled {
            let mut column = group.next_column()?.ok_or_else(missing)?;
            column.typed::<Int64Type>().write_batch(&self.labels, None, None)?;
            column.close()?;
        }
        // Every value is there (1), and the first of each row begins a list (0).
        let there = vec![1; self.values.len()];
        let begins: Vec<i16> = (0..self.values.len()).map(|i| i16::from(i % self.dimension != 0)).collect();
        let mut column = group.next_column()?.ok_or_else(missing)?;
        column.typed::<FloatType>().write_batch(&self.values, Some(&there), Some(&begins))?;
        column.close()?;
        group.close()?;
        self.names.clear();
        self.labels.clear();
        self.values.clear();
        Ok(())
    }
}

fn failed(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(source) => *source,
            Err(source) => io::Error::other(source),
        },
        error => io::Error::other(error),
    }
}
