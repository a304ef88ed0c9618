/** Odd primes below 752, as far as NIST SP 800-89 §5.3.3 has moduli tried (CA/Browser Forum BR §6.1.6). */
export const oddPrimes: readonly number[] = Array.from({ length: 375 }, (_, i) => 2 * i + 3).filter(
  (candidate) => {
    for (let d = 3; d * d <= candidate; d += 2) if (candidate % d === 0) return false;
    return true;
  },
);

/** Primes multiplied together as long as the product is a safe integer: one long division serves them all. */
const groups: readonly { readonly product: bigint; readonly primes: readonly number[] }[] = (() => {
  const made: { product: bigint; primes: number[] }[] = [];
  for (const prime of oddPrimes) {
    const last = made.at(-1);
    if (last && last.product * BigInt(prime) <= BigInt(Number.MAX_SAFE_INTEGER)) {
      last.product *= BigInt(prime);
      last.primes.push(prime);
    } else made.push({ product: BigInt(prime), primes: [prime] });
  }
  return made;
})();

/** n modulo each of `oddPrimes`, in their order. */
export function residuesOf(n: bigint): number[] {
  return groups.flatMap(({ product, primes }) => {
    const rest = Number(n % product);
    return primes.map((prime) => rest % prime);
  });
}
