//! Pictures in Parquet files, as Hugging Face's `datasets` stores them: a column `image` of a struct `{bytes, path}`, and
//! mostly a column `label` of class numbers, whose names lie in the file's metadata under the key `huggingface`
//! (<https://huggingface.co/docs/datasets/image_dataset>). A plain column of bytes does too.
//!
//! A column can only be read forward from the begin of a row group. So readers are kept where they stopped, and a row is
//! read by the one that stands closest before it; pages in between are passed over. In order that is one reader for each
//! thread, and memory of a page (mostly 1 MiB) for each, whatever the size of the files. Out of order, every row costs
//! the decompression of its page.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use parquet::basic::Type;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type, Int64Type};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::ColumnDescPtr;

use crate::error::{Error, Result};

/// Columns that hold pictures where the metadata do not say which, in the order of preference.
const PICTURES: [&str; 8] = ["image", "img", "picture", "photo", "jpg", "jpeg", "png", "webp"];
/// Columns that hold class numbers where the metadata do not say which.
const LABELS: [&str; 3] = ["label", "labels", "cls"];
/// Labels that are read at once.
const LABELS_AT_ONCE: usize = 4096;

/// The pictures of some Parquet files, in their order.
pub(crate) struct Pictures {
    shards: Vec<Shard>,
    /// Readers that wait where they stopped.
    waiting: Mutex<Vec<Reader>>,
    most_waiting: usize,
}

/// One file.
struct Shard {
    path: PathBuf,
    metadata: Arc<ParquetMetaData>,
    /// The column of picture bytes.
    column: usize,
    /// Number of the file's first row among all.
    first: usize,
    /// First row of each row group, and their end, in the file.
    groups: Vec<usize>,
}

/// A column of a row group, read as far as `next`.
struct Reader {
    shard: usize,
    group: usize,
    /// Row in the group that comes next.
    next: usize,
    column: ColumnReaderImpl<ByteArrayType>,
    nullable: bool,
}

/// Class numbers, and names where the files tell them.
pub(crate) struct Labels {
    pub(crate) numbers: Vec<u32>,
    pub(crate) names: Option<Vec<String>>,
}

/// What Hugging Face's metadata say of the columns.
#[derive(Default)]
struct Features {
    picture: Option<String>,
    label: Option<(String, Vec<String>)>,
}

impl Features {
    /// Out of the value of the key `huggingface`; nothing where there is none or it is written otherwise.
    fn read(metadata: &ParquetMetaData) -> Self {
        let pairs = metadata.file_metadata().key_value_metadata().map(Vec::as_slice).unwrap_or_default();
        let text = pairs.iter().find(|pair| pair.key == "huggingface").and_then(|pair| pair.value.as_deref());
        let json: serde_json::Value = text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let Some(features) = json["info"]["features"].as_object() else { return Self::default() };
        let of = |kind: &str| features.iter().find(|(_, feature)| feature["_type"] == kind);
        let label = of("ClassLabel").and_then(|(name, feature)| {
            let names = feature["names"].as_array()?.iter().map(|name| name.as_str().map(str::to_owned));
            Some((name.clone(), names.collect::<Option<Vec<_>>>()?))
        });
        Self { picture: of("Image").map(|(name, _)| name.clone()), label }
    }
}

/// Runs what reads a file that may be damaged: a failure or a panic of the reader becomes an error that names the file.
fn guarded<T>(path: &Path, read: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T> {
    let wrong = |why: String| Error::Dataset { path: path.into(), why };
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(read) => read.map_err(|e| wrong(format!("damaged, truncated, or of a kind that is not read: {e}"))),
        Err(_) => Err(wrong("damaged: its reader gave up".into())),
    }
}

/// Opens files, and reads their labels where all rows have one.
pub(crate) fn open(paths: &[PathBuf]) -> Result<(Pictures, Option<Labels>)> {
    let mut shards: Vec<Shard> = Vec::with_capacity(paths.len());
    let mut numbers: Option<Vec<u32>> = Some(Vec::new());
    let mut names: Option<Vec<String>> = None;
    for path in paths {
        let file = File::open(path).map_err(Error::io("read", path))?;
        let metadata = guarded(path, || Ok(Arc::new(SerializedFileReader::new(file)?.metadata().clone())))?;
        let features = Features::read(&metadata);
        let column = picture_column(path, &metadata, features.picture.as_deref())?;
        let mut groups = vec![0];
        for group in metadata.row_groups() {
            let rows =
                usize::try_from(group.num_rows()).ok().and_then(|rows| rows.checked_add(groups[groups.len() - 1]));
            let wrong = || Error::Dataset { path: path.clone(), why: "a row group of impossible length".into() };
            groups.push(rows.ok_or_else(wrong)?);
        }
        let first = shards.last().map_or(0, |shard| shard.first + shard.rows());
        let shard = Shard { path: path.clone(), metadata, column, first, groups };
        let found = shard.labels(features.label.as_ref().map(|(name, _)| name.as_str()))?;
        numbers = numbers.zip(found).map(|(mut numbers, found)| {
            numbers.extend(found);
            numbers
        });
        let found = features.label.map(|(_, names)| names);
        if shards.is_empty() {
            names = found;
        } else if names != found {
            let why = format!("its class names are not those of {}", paths[0].display());
            return Err(Error::Dataset { path: path.clone(), why });
        }
        shards.push(shard);
    }
    if let (Some(names), Some(numbers)) = (&names, &numbers)
        && let Some(number) = numbers.iter().find(|number| **number as usize >= names.len())
    {
        let why = format!("class {number}, but names of {} classes", names.len());
        return Err(Error::Dataset { path: paths[0].clone(), why });
    }
    let most_waiting = 2 * thread::available_parallelism().map_or(1, usize::from);
    Ok((Pictures { shards, waiting: Mutex::default(), most_waiting }, numbers.map(|numbers| Labels { numbers, names })))
}

/// The column that holds the pictures' bytes.
fn picture_column(path: &Path, metadata: &ParquetMetaData, named: Option<&str>) -> Result<usize> {
    let columns = metadata.file_metadata().schema_descr().columns();
    let usable = |c: &ColumnDescPtr| c.physical_type() == Type::BYTE_ARRAY && c.max_rep_level() == 0;
    let find = |name: &str| {
        let inside = format!("{name}.bytes");
        columns.iter().position(|c| usable(c) && [name, &inside].contains(&c.path().string().as_str()))
    };
    let other = || columns.iter().position(|c| usable(c) && c.path().string().ends_with(".bytes"));
    named.into_iter().chain(PICTURES).find_map(find).or_else(other).ok_or_else(|| {
        let all: Vec<String> = columns.iter().map(|c| c.path().string()).collect();
        let why = format!("it has no column of pictures (image.bytes or image); its columns are {}", all.join(", "));
        Error::Dataset { path: path.into(), why }
    })
}

impl Shard {
    fn rows(&self) -> usize {
        self.groups[self.groups.len() - 1]
    }

    fn pages(
        &self,
        column: usize,
        group: usize,
    ) -> parquet::errors::Result<(ColumnDescPtr, SerializedPageReader<File>)> {
        let rows = self.groups[group + 1] - self.groups[group];
        // A file of its own: readers of one file would move each other's place.
        let file = Arc::new(File::open(&self.path)?);
        let pages = SerializedPageReader::new(file, self.metadata.row_group(group).column(column), rows, None)?;
        Ok((self.metadata.file_metadata().schema_descr().column(column), pages))
    }

    /// All class numbers; `None` where there is no such column, or a row has none or a negative one.
    fn labels(&self, named: Option<&str>) -> Result<Option<Vec<u32>>> {
        let columns = self.metadata.file_metadata().schema_descr().columns();
        let usable =
            |c: &ColumnDescPtr| matches!(c.physical_type(), Type::INT64 | Type::INT32) && c.max_rep_level() == 0;
        let find = |name: &str| columns.iter().position(|c| usable(c) && c.path().string() == name);
        let Some(column) = named.into_iter().chain(LABELS).find_map(find) else { return Ok(None) };
        // A label that is none ends up as one of a class that there cannot be.
        let number = |label: i64| u32::try_from(label).unwrap_or(u32::MAX);
        let mut labels: Vec<u32> = Vec::new();
        for group in 0..self.groups.len() - 1 {
            let (kind, pages) = guarded(&self.path, || self.pages(column, group))?;
            let pages = Box::new(pages);
            guarded(&self.path, || {
                match kind.physical_type() {
                    Type::INT64 => {
                        let mut column = ColumnReaderImpl::<Int64Type>::new(Arc::clone(&kind), pages);
                        let (mut levels, mut wide) = (Vec::new(), Vec::new());
                        while column.read_records(LABELS_AT_ONCE, Some(&mut levels), None, &mut wide)?.0 > 0 {
                            levels.clear();
                            labels.extend(wide.drain(..).map(number));
                        }
                    }
                    _ => {
                        let mut column = ColumnReaderImpl::<Int32Type>::new(Arc::clone(&kind), pages);
                        let (mut levels, mut narrow) = (Vec::new(), Vec::new());
                        while column.read_records(LABELS_AT_ONCE, Some(&mut levels), None, &mut narrow)?.0 > 0 {
                            levels.clear();
                            labels.extend(narrow.drain(..).map(|label| number(i64::from(label))));
                        }
                    }
                }
                Ok(())
            })?;
        }
        Ok((labels.len() == self.rows() && !labels.contains(&u32::MAX)).then_some(labels))
    }

    fn reader(&self, shard: usize, group: usize) -> Result<Reader> {
        let (kind, pages) = guarded(&self.path, || self.pages(self.column, group))?;
        let nullable = kind.max_def_level() > 0;
        Ok(Reader { shard, group, next: 0, column: ColumnReaderImpl::new(kind, Box::new(pages)), nullable })
    }
}

impl Pictures {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.shards.last().map_or(0, |shard| shard.first + shard.rows())
    }

    /// What a picture is called: its file and its row in there.
    pub(crate) fn name(&self, row: usize) -> String {
        let shard = &self.shards[self.shard_of(row)];
        format!("{}#{}", shard.path.display(), row - shard.first)
    }

    /// The bytes of a picture file.
    pub(crate) fn read(&self, row: usize, limit: u64) -> Result<Vec<u8>> {
        let number = self.shard_of(row);
        let shard = &self.shards[number];
        let inside = row - shard.first;
        let group = shard.groups.partition_point(|&first| first <= inside) - 1;
        let wanted = inside - shard.groups[group];
        let mut reader = match self.take(number, group, wanted) {
            Some(reader) => reader,
            None => shard.reader(number, group)?,
        };
        // A reader that fails is not put back.
        let value = guarded(&shard.path, || reader.read(wanted))?;
        self.put(reader);
        let why = || "it has no bytes here (null; files beside the Parquet file are not looked for)".into();
        let value = value.ok_or_else(|| Error::Decode { name: self.name(row), why: why() })?;
        let found = value.len() as u64;
        if found > limit {
            return Err(Error::Limit { name: self.name(row), found, limit, unit: "bytes" });
        }
        Ok(value.data().to_vec())
    }

    pub(crate) fn shard_of(&self, row: usize) -> usize {
        self.shards.partition_point(|shard| shard.first <= row) - 1
    }

    /// The reader that stands closest before a row.
    fn take(&self, shard: usize, group: usize, row: usize) -> Option<Reader> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |r: &Reader| r.shard == shard && r.group == group && r.next <= row;
        let (index, _) = waiting.iter().enumerate().filter(|(_, r)| fits(r)).max_by_key(|(_, r)| r.next)?;
        Some(waiting.remove(index))
    }

    fn put(&self, reader: Reader) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= self.most_waiting {
            waiting.remove(0);
        }
        waiting.push(reader);
    }
}

impl Reader {
    /// The value of a row at or behind the place where it stands; `None` for a row without one.
    fn read(&mut self, row: usize) -> parquet::errors::Result<Option<ByteArray>> {
        let ended = || parquet::errors::ParquetError::EOF(format!("a row group ends before its row {row}"));
        let away = row - self.next;
        if self.column.skip_records(away)? != away {
            return Err(ended());
        }
        let (mut levels, mut values) = (Vec::new(), Vec::with_capacity(1));
        let levels = self.nullable.then_some(&mut levels);
        if self.column.read_records(1, levels, None, &mut values)?.0 != 1 {
            return Err(ended());
        }
        self.next = row + 1;
        Ok(values.pop())
    }
}

impl fmt::Debug for Pictures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<&Path> = self.shards.iter().map(|shard| shard.path.as_path()).collect();
        f.debug_struct("Pictures").field("shards", &paths).field("rows", &self.len()).finish_non_exhaustive()
    }
}

/// Of the Parquet files of a folder those of one part, where their names begin with the parts' names as Hugging Face
/// writes them (`train-00000-of-00004.parquet`); otherwise all.
pub(crate) fn of_part(files: Vec<PathBuf>, names: &[&str]) -> Vec<PathBuf> {
    const PARTS: [&str; 5] = ["train", "test", "val", "valid", "validation"];
    let part = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let word: String = name.chars().take_while(char::is_ascii_alphabetic).collect();
        PARTS.contains(&word.as_str()).then_some(word)
    };
    let parts: HashMap<PathBuf, String> = files.iter().filter_map(|f| Some((f.clone(), part(f)?))).collect();
    if parts.is_empty() {
        return files;
    }
    let first = names.iter().find(|name| parts.values().any(|part| part == *name));
    files.into_iter().filter(|file| first.is_some_and(|name| parts.get(file).is_some_and(|p| p == name))).collect()
}
