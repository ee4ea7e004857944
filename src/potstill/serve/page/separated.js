// Tables as text: comma, semicolon or tab between fields, quotes around those that need them (RFC 4180).

export function guessSeparator(text, name) {
  if (/\.txt$/i.test(name)) return null;
  if (/\.tsv$/i.test(name)) return "\t";
  const line = text.slice(0, 10000).split(/\r?\n/, 1)[0];
  const counts = [",", ";", "\t"].map((sign) => [line.split(sign).length, sign]).sort((a, b) => b[0] - a[0]);
  // A pasted line with commas is a sentence; a table is pasted with tabs, or has a name that says so.
  const isTable = /\.csv$/i.test(name) || counts[0][1] === "\t" || /^"?[\w .-]+"?([,;]"?[\w .-]+"?)+$/.test(line);
  return isTable && counts[0][0] > 1 ? counts[0][1] : /\.csv$/i.test(name) ? "," : null;
}

// Rows of fields. Without a separator every line that is not blank is a row of one field.
export function readRows(text, separator) {
  const whole = text.replace(/^\uFEFF/, "");
  if (separator === null) {
    return whole.split(/\r\n|\n|\r/).filter((line) => line.trim()).map((line) => [line]);
  }
  const rows = [];
  let row = [], field = "", quoted = false, wasQuoted = false;
  const endField = () => {
    row.push(field);
    field = "";
    wasQuoted = false;
  };
  const endRow = () => {
    const blank = row.length === 0 && field === "" && !wasQuoted;
    endField();
    if (!blank) rows.push(row);
    row = [];
  };
  for (let i = 0; i < whole.length; i += 1) {
    const sign = whole[i];
    if (quoted) {
      if (sign !== '"') field += sign;
      else if (whole[i + 1] === '"') field += whole[(i += 1)];
      else quoted = false;
    } else if (sign === '"' && field === "") quoted = wasQuoted = true;
    else if (sign === separator) endField();
    else if (sign === "\n" || sign === "\r") {
      if (sign === "\r" && whole[i + 1] === "\n") i += 1;
      endRow();
    } else field += sign;
  }
  if (field !== "" || row.length || wasQuoted) endRow();
  return rows;
}

const written = (value) => {
  const text = String(value ?? "");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

export const writeRows = (rows) => rows.map((row) => row.map(written).join(",") + "\r\n").join("");
