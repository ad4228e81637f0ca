// Sends the chosen images one by one and shows what comes back.
// Names of files and classes go into the page as text only.

const template = document.querySelector("#card");
const rules = template.dataset;
const results = document.querySelector("#results");
const status = document.querySelector("[role=status]");
const clear = document.querySelector("#clear");
const chooser = document.querySelector("#files");
const zone = document.querySelector(".drop");

let queue = Promise.resolve(); // of the files that wait for those before them
let count = { waiting: 0, done: 0, refused: 0 };

function add(fileList) {
  const files = [...fileList];
  if (!files.length) return;
  const taken = files.slice(0, rules.mostFiles);
  const cards = taken.map(makeCard);
  results.prepend(...cards);
  count.waiting += taken.length;
  taken.forEach((file, index) => {
    queue = queue.then(() => work(file, cards[index]));
  });
  tell(
    taken.length < files.length
      ? `These are the first ${taken.length} of ${files.length} files; add the others afterwards.`
      : ""
  );
}

function makeCard(file) {
  const card = template.content.cloneNode(true).firstElementChild;
  card.querySelector("bdi").textContent = file.name;
  return card;
}

async function work(file, card) {
  if (card.isConnected) {
    const state = card.querySelector(".state");
    state.textContent = "working";
    try {
      show(card, file.name, await classify(file));
      state.remove();
      count.done += 1;
    } catch (error) {
      state.className = "refusal";
      state.textContent = error.message;
      count.refused += 1;
    }
  }
  count.waiting -= 1;
  tell();
}

async function classify(file) {
  if (file.size > rules.largestFile) {
    throw Error(`this file: is larger than ${rules.largestFile / 1e6} MB`);
  }
  let body, response, answer;
  try {
    body = await file.arrayBuffer();
  } catch {
    throw Error("this file: cannot be read; is it a folder?");
  }
  try {
    response = await fetch("/predict", {
      method: "POST",
      headers: { "Content-Type": rules.fileType },
      body,
    });
    answer = await response.json();
  } catch {
    throw Error("no answer; does python -m stages.predict --serve still run?");
  }
  if (answer.error) throw Error(answer.error);
  return answer;
}

function show(card, name, answer) {
  const [best] = answer.classes[0];
  fillFigure(card.querySelector(".seen"), answer.seen, rules.seen, `${name}. ${rules.seen}`);
  const map = card.querySelector(".map");
  if (answer.map) {
    const found = answer.place
      ? `What speaks for ${best}, strongest in ${answer.place}`
      : `Nothing in it speaks for ${best}`;
    fillFigure(map, answer.map, found, `${name} as a map. ${found}`);
  } else {
    map.remove();
  }
  const list = card.querySelector(".shares ol");
  for (const [label, probability] of answer.classes) list.append(makeRow(label, probability));
  const others = rules.classes - answer.classes.length;
  if (others) {
    const rest = answer.classes.reduce((left, [, probability]) => left - probability, 1);
    list.after(makeNote(others, rest));
  }
  card.querySelector(".answer").hidden = false;
}

function fillFigure(figure, address, caption, words) {
  const image = figure.querySelector("img");
  image.src = address;
  image.alt = words;
  figure.querySelector("figcaption").textContent = caption;
}

function makeRow(label, probability) {
  const row = document.createElement("li");
  const [name, share, track, filled] = ["span", "span", "div", "div"].map((tag) =>
    document.createElement(tag)
  );
  name.textContent = label;
  share.textContent = wordShare(probability);
  track.className = "track";
  filled.style.width = `${100 * probability}%`;
  track.append(filled);
  row.append(name, " ", share, track);
  return row;
}

function makeNote(others, probability) {
  const note = document.createElement("p");
  note.className = "quiet";
  const classes = others === 1 ? "the other class" : `the other ${others} classes together`;
  note.textContent = `${classes}: ${wordShare(Math.max(0, probability))}`;
  return note;
}

function wordShare(probability) {
  if (probability < 0.001) return "< 0.1 %";
  if (probability > 0.999) return "> 99.9 %";
  return `${(100 * probability).toFixed(1)} %`;
}

function tell(note = "") {
  const words = [
    count.waiting && `${count.waiting} to do`,
    count.done && `${count.done} classified`,
    count.refused && `${count.refused} refused`,
  ].filter(Boolean);
  status.textContent = [words.join(", "), note].filter(Boolean).join(". ");
  clear.hidden = !results.childElementCount;
}

chooser.addEventListener("change", () => {
  add(chooser.files);
  chooser.value = ""; // so that the same file can be chosen again
});

clear.addEventListener("click", () => {
  results.replaceChildren(); // what waits is left out, too
  count = { ...count, done: 0, refused: 0 };
  tell();
  chooser.focus();
});

document.addEventListener("paste", (event) => add(event.clipboardData.files));

// Anywhere in the window: a file dropped beside the zone would replace the page.
for (const type of ["dragenter", "dragover"]) {
  document.addEventListener(type, (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) zone.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  zone.classList.remove("over");
  add(event.dataTransfer.files);
});
