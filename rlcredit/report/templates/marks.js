"use strict";
const page = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const LONG = 120;  // tokens of a response that is set smaller
  const at = (id) => document.getElementById(id);

  const element = (name, text = "", className = "") => {
    const made = document.createElement(name);
    made.textContent = text;
    if (className) made.className = className;
    return made;
  };

  const figure = (value) => (value < 0 ? "\u2212" : "") + Math.abs(value).toFixed(3);
  const signed = (value) => (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(3);
  const short = (text, most = 90) => (text.length > most ? text.slice(0, most - 1) + "\u2026" : text);

  function fill(select, texts) {
    select.replaceChildren(...texts.map((text) => element("option", short(text))));
  }

  const largest = (values) => Math.max(0, ...(values || []).map((value) => Math.abs(value || 0)));

  // A piece of text in the colour and underline of its credit.
  function token(text, value, most) {
    const made = element("span", text, "token");
    const size = most > 0 && value !== null ? Math.abs(value) / most : 0;
    made.style.setProperty("--tone", value < 0 ? "var(--bad)" : "var(--good)");
    made.style.setProperty("--depth", (0.5 * size).toFixed(3));
    made.style.setProperty("--thick", size < 0.02 ? "0px" : `${1 + Math.round(3 * size)}px`);
    made.style.setProperty("--dash", value < 0 ? "dashed" : "solid");
    return made;
  }

  // The parts of a response, each around its tokens, with `wrap(index)` around a part.
  function response(current, values, most, wrap, numbers) {
    const text = element("div", "", current.tokens.length > LONG ? "text long" : "text");
    let open = null;
    let part = -1;
    current.tokens.forEach((piece, index) => {
      const own = current.segment_of[index];
      if (own !== part || own < 0) open = null;
      part = own;
      const value = values === null ? null : values[index];
      const made = token(piece, value, most);
      const ends = () => current.segment_of[index + 1] !== own || values[index + 1] !== value;
      if (numbers && value !== null && own >= 0 && ends()) made.append(element("sub", signed(value)));
      if (own < 0) { text.append(made); return; }
      if (!open) {
        const [space] = made.firstChild.data.match(/^\s*/);  // stands before the part, not in it
        made.firstChild.data = made.firstChild.data.slice(space.length);
        open = wrap(own);
        text.append(space, open);
      }
      open.append(made);
    });
    if (!current.tokens.length) text.append(element("em", "an empty response"));
    return text;
  }

  // A ranking; each document says how its rank differs from that in the other list.
  function ranking(target, hits, other, absent) {
    const ranks = new Map(other.map(([document], rank) => [document, rank]));
    target.replaceChildren(...hits.map(([document, grade], rank) => {
      const made = element("li", `${"\u2605".repeat(grade)}${grade ? " " : ""}${data.documents[document]} `);
      if (grade > 0) made.classList.add("hit");
      const before = ranks.get(document);
      const by = before === undefined ? 0 : before - rank;
      if (before === undefined) made.append(element("span", absent, "move"));
      else if (by) made.append(element("span", (by > 0 ? "\u25b2" : "\u25bc") + Math.abs(by), by > 0 ? "move up" : "move down"));
      return made;
    }));
    if (!hits.length) target.append(element("li", "nothing: the text has no known word"));
  }

  // Lines from each document on the left to its place on the right.
  function lines(holder, left, right) {
    const canvas = holder.querySelector("svg");
    const [from, to] = [...holder.querySelectorAll("ol")];
    const frame = canvas.getBoundingClientRect();
    canvas.replaceChildren();
    if (!frame.width) return;
    const ranks = new Map(right.map(([document], rank) => [document, rank]));
    left.forEach(([document], rank) => {
      if (!ranks.has(document)) return;
      const height = (list, place) => {
        const box = list.children[place].getBoundingClientRect();
        return box.top + box.height / 2 - frame.top;
      };
      const other = ranks.get(document);
      const path = window.document.createElementNS("http://www.w3.org/2000/svg", "path");
      const [y, z] = [height(from, rank), height(to, other)];
      path.setAttribute("d", `M4,${y} C${frame.width / 2},${y} ${frame.width / 2},${z} ${frame.width - 4},${z}`);
      if (other !== rank) path.setAttribute("class", other < rank ? "up" : "down");
      canvas.append(path);
    });
  }

  return { data, at, element, figure, signed, short, fill, largest, response, token, ranking, lines, LONG };
})();
