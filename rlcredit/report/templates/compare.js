(() => {
  const { data, at, element, figure, fill, largest } = page;

  // Two runs on the prompt that the explorer shows.
  function compare() {
    const sides = ["left", "right"].map(at);
    const of = (side, kind) => side.querySelector(kind);
    const asked = (side) => data.runs[of(side, ".run").selectedIndex];
    let prompt = 0;

    const written = (side) => asked(side).prompts[prompt].responses[of(side, ".which").selectedIndex];

    function fillWhich(side) {
      fill(of(side, ".which"), asked(side).prompts[prompt].responses.map(
        (each, n) => `${n + 1}: reward ${figure(each.reward)}`));
    }

    function draw() {
      const judge = data.methods[at("judge").selectedIndex].name;
      const said = sides.map((side) => written(side).methods[judge]);
      const values = said.map((method) => method.credit || method.advantages);
      const most = Math.max(...values.map(largest));
      const [first, second] = sides.map((side, n) => {
        const response = written(side);
        const wrap = (index) => element("span", "", response.segments[index].counts ? "part" : "part null");
        const text = page.response(response, values[n], most, wrap, false);
        of(side, ".text").replaceWith(text);
        const title = at("pairs").querySelectorAll("h3")[n];
        title.textContent = `${asked(side).label}: reward ${figure(response.reward)}`;
        return response.found;
      });
      const lists = at("pairs").querySelectorAll("ol");
      page.ranking(lists[0], first, second, "left alone");
      page.ranking(lists[1], second, first, "right alone");
      lists[0].querySelectorAll(".up, .down").forEach((move) => move.remove());
      page.lines(at("pairs"), first, second);
    }

    fill(at("judge"), data.methods.map((each) => each.label));
    at("judge").selectedIndex = Math.max(0, data.methods.findIndex((each) => each.name === data.own));
    at("judge").addEventListener("change", draw);
    sides.forEach((side, n) => {
      fill(of(side, ".run"), data.runs.map((run) => run.label));
      of(side, ".run").selectedIndex = n ? data.runs.length - 1 : 0;
      of(side, ".run").addEventListener("change", () => { fillWhich(side); draw(); });
      of(side, ".which").addEventListener("change", draw);
    });
    document.addEventListener("prompt", (event) => { prompt = event.detail; sides.forEach(fillWhich); draw(); });
    window.addEventListener("resize", draw);
  }

  // What one training prompt was answered with, step by step.
  function steps() {
    const body = document.querySelector("#steps tbody");

    function segments(view, most) {
      const text = element("div", "", "text");
      view.segments.forEach((segment, n) => {
        if (n) text.append(", ");
        const part = element("span", "", segment.counts ? "part" : "part null");
        part.append(page.token(segment.text, segment.credit, most));
        part.title = segment.credit === null ? "no credit of its own" : page.signed(segment.credit);
        text.append(part);
      });
      if (!view.segments.length) text.append(view.response);
      return text;
    }

    function draw() {
      const views = data.steps[at("trained").selectedIndex].steps;
      const most = Math.max(...views.map((view) => largest(view.segments.map((each) => each.credit))));
      body.replaceChildren(...views.map((view) => {
        const row = element("tr");
        const step = element("th", String(view.step));
        step.scope = "row";
        const response = element("td");
        response.append(segments(view, most));
        row.append(step, element("td", figure(view.mean), "n"), element("td", figure(view.reward), "n"), response);
        return row;
      }));
    }

    fill(at("trained"), data.steps.map((each) => `${each.text} (${each.steps.length} steps)`));
    at("trained").addEventListener("change", draw);
    draw();
  }

  if (data.runs.length > 1) compare();
  if (data.steps.length) steps();
})();
