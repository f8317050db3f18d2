"""Writes tests/data/parquet: the pictures of tests/data/pictures as Hugging Face's `datasets` stores them.

usage: python record_parquet.py     (needs pyarrow)
Small row groups and pages, so that reading has to cross them; another compression in each file.
"""
import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

here = pathlib.Path(__file__).parent
classes = sorted(folder.name for folder in (here / "pictures").iterdir() if folder.is_dir())
files = sorted((here / "pictures").glob("*/*.png"))
image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
features = {"image": {"_type": "Image"}, "label": {"names": classes, "_type": "ClassLabel"}}
metadata = {"huggingface": json.dumps({"info": {"features": features}})}
schema = pa.schema([("image", image), ("label", pa.int64())], metadata=metadata)


def write(name, rows, compression, schema=schema, **options):
    values = {
        "image": [None if row is None else {"bytes": row.read_bytes(), "path": row.name} for row in rows],
        "label": [-1 if row is None else classes.index(row.parent.name) for row in rows],
    }
    table = pa.table({key: pa.array(values[key], schema.field(key).type) for key in schema.names}, schema=schema)
    pq.write_table(table, here / "parquet" / name, compression=compression, **options)


out = here / "parquet"
out.mkdir(exist_ok=True)
write("train-00000-of-00003.parquet", files[:5], "snappy", row_group_size=3)
write("train-00001-of-00003.parquet", files[5:9], "zstd", data_page_size=600, use_dictionary=False)
write("train-00002-of-00003.parquet", files[9:], "gzip", data_page_version="2.0", row_group_size=2)
write("test-00000-of-00001.parquet", [files[0], None, files[1]], "none")
