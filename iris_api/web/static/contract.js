// Checks a value against the contract in the model's card.

const EXACT = 2 ** 53; // Larger integers may be inexact.

/** Why the service would refuse a value, in its own words; empty if it would not. */
export function refusal({ minimum, maximum, type }, value) {
  const whole = type === "int";
  const [least, most] = whole ? [Math.max(Math.ceil(minimum), -EXACT), Math.min(Math.floor(maximum), EXACT)] : [minimum, maximum];
  const expected = !Number.isFinite(value) || (whole && !Number.isInteger(value)) ? `a valid ${whole ? "integer" : "number"}`
    : value < least ? `greater than or equal to ${least}`
    : value > most ? `less than or equal to ${most}` : "";
  return expected && `Input should be ${expected}`;
}
