// Whether a value keeps the contract, by the model's card.

const EXACT = 2 ** 53; // A whole number beyond it is not exact.

/** Why the service would refuse a value, in its words; nothing if it takes it. */
export function refusal({ minimum, maximum, type }, value) {
  const whole = type === "int";
  const [least, most] = whole ? [Math.max(Math.ceil(minimum), -EXACT), Math.min(Math.floor(maximum), EXACT)] : [minimum, maximum];
  const wrong = !Number.isFinite(value) || (whole && !Number.isInteger(value)) ? `a valid ${whole ? "integer" : "number"}`
    : value < least ? `greater than or equal to ${least}`
    : value > most ? `less than or equal to ${most}` : "";
  return wrong && `Input should be ${wrong}`;
}
