#!/usr/bin/env python3
"""Makes the Parquet files that the tests read: `python parquet_files.py FOLDER`, with pyarrow 26.0.1 and pandas 3.1.1."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

folder = Path(sys.argv[1])

# A fixed-size list for each example and labels by dictionary, as dataset tools keep embeddings.
vectors = [[0.5, -1.0, 2.0], [1.5, 0.0, -0.25], [3.0, 4.0, 5.0], [-6.0, 7.0, 8.5]]
table = pa.table(
    {
        "path": ["a.png", "b.png", "c.png", "d.png"],
        "embedding": pa.array(vectors, pa.list_(pa.float32(), 3)),
        "label": pa.array(["cat", "dog", "cat", "bird"]).dictionary_encode(),
    }
)
pq.write_table(table, folder / "pyarrow-lists.parquet", compression="zstd")

# A column for each feature, of three widths, and an index of its own, as data frames are kept.
frame = pd.DataFrame(
    {
        "f0": np.float32([0.5, 1.5, 3.0]),
        "f1": np.float64([-1.0, 0.0, 4.0]),
        "f2": np.float16([2.0, -0.25, 5.0]),
        "class": [2, 0, 2],
    },
    index=[10, 11, 12],
)
frame.to_parquet(folder / "pandas-columns.parquet")
