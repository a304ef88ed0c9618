import { hex } from '../../../core/runtime/bytes.ts';
import type { EcMaterial, KeyCheck } from './material.ts';

/** y² = x³ - 3x + b over the field of p elements (NIST SP 800-186 §3.2.1.3, §3.2.1.4). */
const curves: Readonly<Record<EcMaterial['type'], { readonly p: bigint; readonly b: bigint }>> = {
  p256: {
    p: 2n ** 256n - 2n ** 224n + 2n ** 192n + 2n ** 96n - 1n,
    b: 0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604bn,
  },
  p384: {
    p: 2n ** 384n - 2n ** 128n - 2n ** 96n + 2n ** 32n - 1n,
    b: 0xb3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aefn,
  },
};

/**
 * The point is uncompressed, its coordinates are of the field, and it lies on its curve (NIST SP 800-56A rev. 3
 * §5.6.2.3.4; the cofactor of these curves is 1). The point at infinity has no such form.
 */
export const ecPoint: KeyCheck = (key) => {
  if (key.family !== 'ec') return undefined;
  const { point, coordinateLength, type } = key;
  if (point.length !== 1 + 2 * coordinateLength || point[0] !== 4)
    return 'the public key is not an uncompressed point of its curve';
  const x = BigInt(`0x${hex(point.subarray(1, 1 + coordinateLength))}`);
  const y = BigInt(`0x${hex(point.subarray(1 + coordinateLength))}`);
  const { p, b } = curves[type];
  if (x >= p || y >= p) return 'a coordinate of the public key is not of the field';
  return (x * x * x - 3n * x + b - y * y) % p === 0n
    ? undefined
    : 'the public key is not a point of its curve';
};
