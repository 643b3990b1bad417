"use strict";

// What the scripts of a page share. Text of the corpus is only ever set as textContent or as an attribute.
globalThis.assay = (() => {
  const ARRAYS = {
    int8: Int8Array, uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array,
    int32: Int32Array, uint32: Uint32Array, float32: Float32Array, float16: Uint16Array,
  };

  function make(tag, properties = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name === "class") node.className = value;
      else node.setAttribute(name, value);
    }
    node.append(...children); // strings become text nodes, never markup
    return node;
  }

  function draw(tag, properties = {}, ...children) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(properties)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  async function unpack(packed) {
    const text = atob(packed.zlib_base64);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const values = new ARRAYS[packed.dtype](await new Response(stream).arrayBuffer());
    return packed.dtype === "float16" ? halves(values) : values;
  }

  // Numbers of 16 bits, which browsers have no array for.
  function halves(bits) {
    const values = new Float32Array(bits.length);
    for (let i = 0; i < bits.length; i++) {
      const exponent = (bits[i] >> 10) & 31;
      const fraction = bits[i] & 1023;
      const size =
        exponent === 31 ? (fraction ? NaN : Infinity)
        : exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024)
        : 2 ** -14 * (fraction / 1024);
      values[i] = bits[i] >> 15 ? -size : size;
    }
    return values;
  }

  // Line ends, tabs and characters that would turn the text around are shown by a sign.
  function signs(text) {
    return text
      .replace(/\r\n|[\n\r\u2028\u2029]/g, "↵")
      .replace(/\t/g, "→")
      .replace(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, (c) => `‹${c.charCodeAt(0).toString(16).padStart(4, "0").toUpperCase()}›`);
  }

  function percent(share) {
    if (!(share > 0)) return "never";
    const value = share * 100;
    return `${value >= 9.95 ? value.toFixed(0) : Number(value.toPrecision(2))}%`;
  }

  function number(value, digits = 3) {
    if (value === null || value === undefined || Number.isNaN(value)) return "—";
    return String(Number(value.toPrecision(digits))).replace("-", "−");
  }

  function cosine(value) {
    return value === null || Number.isNaN(value) ? "—" : value.toFixed(2).replace("-", "−");
  }

  return { make, draw, unpack, signs, percent, number, cosine };
})();
