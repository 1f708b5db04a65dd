#!/usr/bin/env python3
"""Makes src/data/digits.bin.gz from scikit-learn's copy of the UCI optical digits.

    python3 scripts/digits.py [path/to/digits.csv.gz]

Without an argument the file is taken from the installed scikit-learn. Only the standard library is used.

Output, before gzip: 1,797 records of 65 bytes (the label, then 64 pixels in row order, each 0..16); first the 1,437
of the training part, then the 360 of the test part. The split is stratified: each class gives its share of the test
part, rounded by largest remainder. Which images go where, and the order within a part, is the order of
sha256("kiln-digits:<row>"), so that no library's random generator decides it.
"""

import gzip
import hashlib
import importlib.util
import pathlib
import sys

CLASSES, PIXELS, TOTAL, TEST = 10, 64, 1797, 360
# sha256 of the records before gzip: the output of gzip may differ between versions of zlib, these bytes may not.
EXPECTED = "b7bf84e4d25be302adb4ae6540ede9449a5b49885d0660de3ec12b453797b11f"


def source():
    """The CSV named on the command line, or that of the installed scikit-learn."""
    if len(sys.argv) > 1:
        return pathlib.Path(sys.argv[1])
    spec = importlib.util.find_spec("sklearn")
    if spec is None:
        sys.exit("scikit-learn is not installed: `pip install scikit-learn`, or name its digits.csv.gz")
    return pathlib.Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"


def records(path):
    """One (label, pixels) a row of the CSV, checked."""
    rows = [[int(value) for value in line.split(b",")] for line in gzip.open(path)]
    if len(rows) != TOTAL or any(len(row) != PIXELS + 1 for row in rows):
        sys.exit(f"{path}: expected {TOTAL} rows of {PIXELS + 1} numbers")
    if any(max(row[:PIXELS]) > 16 or min(row) < 0 or row[PIXELS] >= CLASSES for row in rows):
        sys.exit(f"{path}: a pixel is not in 0..16 or a label not in 0..9")
    return [(row[PIXELS], bytes(row[:PIXELS])) for row in rows]


def split(rows):
    """Rows of the training part and of the test part, each in the order of their hashes."""
    order = sorted(range(TOTAL), key=lambda row: hashlib.sha256(f"kiln-digits:{row}".encode()).digest())
    members = [[row for row in order if rows[row][0] == label] for label in range(CLASSES)]
    quota = [len(of_class) * TEST // TOTAL for of_class in members]
    by_remainder = sorted(range(CLASSES), key=lambda label: (-(len(members[label]) * TEST % TOTAL), label))
    for label in by_remainder[: TEST - sum(quota)]:
        quota[label] += 1
    test = {row for label in range(CLASSES) for row in members[label][: quota[label]]}
    return [row for row in order if row not in test], [row for row in order if row in test]


def main():
    rows = records(source())
    train, test = split(rows)
    data = b"".join(bytes([rows[row][0]]) + rows[row][1] for row in train + test)
    digest = hashlib.sha256(data).hexdigest()
    if digest != EXPECTED:
        sys.exit(f"the records have sha256 {digest}, not {EXPECTED}: the source or the split changed")
    target = pathlib.Path(__file__).resolve().parent.parent / "src" / "data" / "digits.bin.gz"
    target.write_bytes(gzip.compress(data, compresslevel=9, mtime=0))
    print(f"{target.name}: {len(train)} + {len(test)} images, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
