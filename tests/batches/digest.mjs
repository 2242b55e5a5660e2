// The digest of the rows of a batch, worked out as a page in a browser does, with nothing of the server's own.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

const DOMAIN = Buffer.from("outlay.batch.v1\n", "ascii");
const sha = (...parts) => createHash("sha256").update(Buffer.concat(parts)).digest();

const quoted = (text) =>
  JSON.stringify(text).replace(/[\u007f-\uffff]/g, (unit) =>
    "\\u" + unit.charCodeAt(0).toString(16).padStart(4, "0"));

const canonical = (item) =>
  "{" + Object.keys(item).sort().map((name) => quoted(name) + ":" + quoted(item[name])).join(",") + "}";

const leaf = (item) => sha(Buffer.from([0]), DOMAIN, Buffer.from(canonical(item), "ascii"));
const node = (left, right) => sha(Buffer.from([1]), DOMAIN, left, right);

function digest(items) {
  const peaks = [];
  items.forEach((item, at) => {
    let [hash, height] = [leaf(item), at];
    while (height & 1) {
      hash = node(peaks.pop(), hash);
      height >>= 1;
    }
    peaks.push(hash);
  });
  let root = peaks.pop();
  while (peaks.length) root = node(peaks.pop(), root);
  const count = Buffer.alloc(8);
  count.writeBigUInt64BE(BigInt(items.length));
  return sha(Buffer.from([2]), DOMAIN, count, root).toString("hex");
}

const { cases } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const seen = cases.map((each) => ({
  canonical: each.items.map(canonical),
  leaves: each.items.map((item) => leaf(item).toString("hex")),
  digest: digest(each.items),
}));
console.log(JSON.stringify(seen));
