// Returns the texts of a page whose colour does not stand out from their ground as WCAG 2 AA asks, each kind once.
const known = new Map();
const pen = Object.assign(document.createElement("canvas"), { width: 1, height: 1 })
  .getContext("2d", { willReadFrequently: true });

function colour(written) {
  if (!known.has(written)) {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = written;
    pen.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = pen.getImageData(0, 0, 1, 1).data;
    known.set(written, [red, green, blue, alpha / 255]);
  }
  return known.get(written);
}

function over(top, under, opacity = 1) {
  const share = top[3] * opacity;
  return [0, 1, 2].map((place) => top[place] * share + under[place] * (1 - share));
}

function luminance(shown) {
  const [red, green, blue] = shown.map((value) => {
    const part = value / 255;
    return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function* upwards(element) {
  for (; element; element = element.parentElement) yield element;
}

function ground(element) {
  const layers = [];
  for (const each of upwards(element)) {
    layers.push(colour(getComputedStyle(each).backgroundColor));
    if (layers.at(-1)[3] === 1) break;
  }
  return layers.reduceRight((under, top) => over(top, under), [255, 255, 255]);
}

const found = new Map();
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node = texts.nextNode(); node; node = texts.nextNode()) {
  const element = node.parentElement;
  const style = getComputedStyle(element);
  const box = element.getBoundingClientRect();
  const seen = element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  if (!node.textContent.trim() || !seen || box.width < 2 || box.height < 2) continue;
  const opacity = [...upwards(element)].reduce((sum, each) => sum * Number(getComputedStyle(each).opacity), 1);
  const under = ground(element);
  const [light, dark] = [luminance(over(colour(style.color), under, opacity)), luminance(under)].sort((a, b) => b - a);
  const ratio = (light + 0.05) / (dark + 0.05);
  const size = parseFloat(style.fontSize);
  // A mark that says nothing beside its words is a graphic, and is asked what large text is.
  const mark = element.getAttribute("aria-hidden") === "true";
  const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  if (ratio < (mark || large ? 3 : 4.5)) {
    found.set(`${element.tagName}.${element.className} ${style.color} on ${under.map(Math.round)}`, [
      ratio.toFixed(2),
      node.textContent.trim().slice(0, 40),
    ]);
  }
}
return [...found];
