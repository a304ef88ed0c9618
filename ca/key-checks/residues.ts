/** Primes below 752, as far as NIST SP 800-89 §5.3.3 has moduli tried (CA/Browser Forum BR §6.1.6). */
export const smallPrimes: readonly number[] = Array.from({ length: 750 }, (_, i) => i + 2).filter(
  (candidate) => {
    for (let d = 2; d * d <= candidate; d++) if (candidate % d === 0) return false;
    return true;
  },
);

/** Odd primes multiplied together as long as the product is a safe integer: one long division serves them all. */
const groups: readonly { readonly product: bigint; readonly primes: readonly number[] }[] = (() => {
  const made: { product: bigint; primes: number[] }[] = [];
  for (const prime of smallPrimes.slice(1)) {
    const last = made.at(-1);
    if (last && last.product * BigInt(prime) <= BigInt(Number.MAX_SAFE_INTEGER)) {
      last.product *= BigInt(prime);
      last.primes.push(prime);
    } else made.push({ product: BigInt(prime), primes: [prime] });
  }
  return made;
})();

/** Calls `visit` with n mod p for each odd prime below 752, smallest first, until it returns false. */
export function eachResidue(n: bigint, visit: (prime: number, residue: number) => boolean): void {
  for (const { product, primes } of groups) {
    const rest = Number(n % product);
    for (const prime of primes) if (!visit(prime, rest % prime)) return;
  }
}
