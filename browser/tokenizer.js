// minildm/text/bpe.py and tokenizer.py once more, for the page: from a prompt to the numbers of its pieces. Chapter 08 builds it.
// The vocabulary and the merges come from the model (model.json); tests/test_browser.py compares the two.

// English contractions, runs of letters, single digits, runs of anything else that is not white space.
const WORD =
  /<\|startoftext\|>|<\|endoftext\|>|'(?:s|t|re|ve|m|ll|d)|\p{L}+|\p{N}|[^ \t\n\r\f\v\x85\p{Z}\p{L}\p{N}]+/gu;
const END_OF_WORD = "</w>";

// A visible character for every byte: its own where that one prints, else the next from U+0100 on.
const prints = (byte) => (byte > 32 && byte < 127) || (byte > 160 && byte < 256 && byte !== 173);
const others = Array.from({ length: 256 }, (_, byte) => byte).filter((byte) => !prints(byte));
const charOf = (byte) => String.fromCodePoint(prints(byte) ? byte : 256 + others.indexOf(byte));

/** Unicode's composed form, lower case; by character, so that no sigma becomes a word's last one. */
const normalize = (text) => [...text.normalize("NFC")].map((char) => char.toLowerCase()).join("");

/** The words of a normalised text: "it's 10!" -> ["it", "'s", "1", "0", "!"]. */
const splitWords = (text) => (text.match(WORD) ?? []).flatMap((word) =>  // a special token's name made by lower-casing
  (/^<\|(startoftext|endoftext)\|>$/.test(word) ? ["<|", word.slice(2, -2), "|>"] : [word]));  // is three words

/** The UTF-8 bytes of a word, as visible characters: "né" -> ["n", "Ã", "©</w>"]. */
function wordToBytes(word) {
  const bytes = encodeURIComponent(word).match(/%..|./g).map((code) =>
    (code.length > 1 ? parseInt(code.slice(1), 16) : code.charCodeAt(0)));
  return bytes.map((byte, i) => charOf(byte) + (i === bytes.length - 1 ? END_OF_WORD : ""));
}

/** `pieces` with every occurrence of the pair, from the left, joined into one piece. */
function mergePair(pieces, [left, right]) {
  const merged = [];
  for (let i = 0; i < pieces.length; i++) {
    const found = pieces[i] === left && pieces[i + 1] === right;
    merged.push(found ? left + right : pieces[i]);
    if (found) i++;
  }
  return merged;
}

export class Tokenizer {
  constructor({ vocab, merges, model_max_length, special_tokens, known_words }) {
    this.length = model_max_length;
    this.ids = new Map(vocab.map((piece, id) => [piece, id]));
    this.rank = new Map(merges.map((merge, rank) => [merge, rank]));  // the earliest-learned merge goes first
    this.special = special_tokens;
    this.names = [...new Set(Object.values(special_tokens))];
    this.known = new Set([...known_words, ...this.names]);
    this.tells = known_words.length > 0;  // else nobody knows what training saw
  }

  /** What a prompt becomes: {words, pieces, ids, needed, unknown, cut}. ids are `length` numbers: start, pieces, end,
   * padding; `needed` is how many there were before cutting, `cut` quotes the words that do not fit whole. */
  read(text) {
    const words = this.words(text), parts = words.map((word) => this.piecesOf(word));
    const pieces = parts.flat(), room = this.length - 2;
    const id = (piece) => this.ids.get(piece) ?? this.ids.get(this.special.unk_token);
    const { bos_token, eos_token, pad_token } = this.special;
    const ids = [bos_token, ...pieces.slice(0, room), eos_token].map(id);
    while (ids.length < this.length) ids.push(id(pad_token));
    let end = 0;
    const beyond = words.filter((_, i) => (end += parts[i].length) > room);
    const unknown = this.tells ? [...new Set(words)].filter((word) => !this.known.has(word)) : [];
    return { words, pieces, ids, needed: pieces.length + 2, unknown, cut: beyond.join(" ") };
  }

  /** The words of a text; a special token written in it counts as one. */
  words(text) {
    const escaped = this.names.map((name) => name.replace(/[^\w<>]/g, "\\$&"));
    return text.split(new RegExp(`(${escaped.join("|")})`)).flatMap((part) =>
      (this.names.includes(part) ? [part] : splitWords(normalize(part))));
  }

  piecesOf(word) {
    if (this.names.includes(word)) return [word];
    for (let pieces = wordToBytes(word); ;) {
      const pairs = pieces.slice(1).map((right, i) => [pieces[i], right]);
      const rank = (pair) => this.rank.get(pair.join(" ")) ?? Infinity;
      const first = Math.min(...pairs.map(rank));
      if (first === Infinity) return pieces;
      pieces = mergePair(pieces, pairs.find((pair) => rank(pair) === first));
    }
  }
}
